/** One of the mover's progress lines, in numbers. */
export interface Progress {
  percent: number
  bytes: number
  total: number
  /** undefined: the mover does not know yet. */
  bytesPerSecond: number | undefined
  secondsLeft: number | undefined
  files: number
  totalFiles: number
  phase: string
}

const LINE = /^progress (\d+)% (\d+)\/(\d+) B ([\d.]+|-) MB\/s eta (?:(\d+)s|-) files (\d+)\/(\d+) phase (\w+)$/

/** `progress 45% 7230000000/16060000000 B 243 MB/s eta 36s files 6/17 phase moving`; undefined for any other line. */
export function parseProgress(line: string): Progress | undefined {
  const match = LINE.exec(line)
  if (!match) return undefined
  const [percent = 0, bytes = 0, total = 0, rate, left, files = 0, totalFiles = 0] = match
    .slice(1, 8)
    .map(numberOrNothing)
  return {
    percent,
    bytes,
    total,
    bytesPerSecond: rate === undefined ? undefined : rate * 1e6,
    secondsLeft: left,
    files,
    totalFiles,
    phase: match[8] ?? '',
  }
}

/** The last line of a run that found all of it while it planned. */
export function isAllThere({ phase, bytes, total }: Progress): boolean {
  return phase === 'planning' && total > 0 && bytes === total
}

function numberOrNothing(text: string | undefined): number | undefined {
  return text === undefined || text === '-' ? undefined : Number(text)
}
