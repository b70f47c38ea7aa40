/** What a pod of the mover leaves behind as its termination message. */
export interface MoverDone {
  state: 'done'
  commit: string
  files: number
  bytes: number
  /** Bytes that this pod moved; the others were there already. */
  moved: number
  seconds: number
  /** Files that the evidence does not know (verify only; the first few). */
  unknown: string[]
}

export interface MoverFailure {
  state: 'failed'
  cause: string
  detail: string
  next: string
  /** What verify found missing, wrong or unknown: the first paths of each, lists that are not empty. */
  paths: Record<string, string[]>
}

/** The termination message; undefined for none, and for one that is somebody else's (the kubelet writes there too). */
export function parseReport(message: string | undefined): MoverDone | MoverFailure | undefined {
  let document: unknown
  try {
    document = JSON.parse(message ?? '')
  } catch {
    return undefined
  }
  if (typeof document !== 'object' || document === null) return undefined
  const found = document as Record<string, unknown>
  const text = (name: string) => (typeof found[name] === 'string' ? found[name] : '')
  const number = (name: string) => (typeof found[name] === 'number' ? found[name] : 0)
  const list = (name: string) => (Array.isArray(found[name]) ? found[name].map(String) : [])
  if (found.state === 'failed') {
    const paths = Object.fromEntries(
      ['missing', 'wrong', 'unknown']
        .map((name) => [name, list(name)] as const)
        .filter(([, names]) => names.length > 0),
    )
    return { state: 'failed', cause: text('cause'), detail: text('detail'), next: text('next'), paths }
  }
  if (found.state !== 'done') return undefined
  return {
    state: 'done',
    commit: text('commit'),
    files: number('files'),
    bytes: number('bytes'),
    moved: number('moved'),
    seconds: number('seconds'),
    unknown: list('unknown'),
  }
}
