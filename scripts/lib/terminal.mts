/** What a stream of ours can show. */
export interface Terminal {
  /** Whether a line may be drawn again in its place. */
  live: boolean
  color: boolean
  /** Columns now; a window may be resized. */
  columns(): number
}

interface Stream {
  isTTY?: boolean
  columns?: number
}

/** Decides by the usual signs: no terminal, TERM=dumb and CI take lines as they come; NO_COLOR takes no colour. */
export function terminalOf(stream: Stream, env: Readonly<Record<string, string | undefined>>): Terminal {
  const live = stream.isTTY === true && env.TERM !== 'dumb' && !env.CI
  return { live, color: live && !env.NO_COLOR, columns: () => stream.columns || 80 }
}
