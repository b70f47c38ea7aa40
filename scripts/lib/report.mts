import { formatPrintable } from './format.mts'

/** What a pod of the mover leaves behind as its termination message. */
export interface MoverDone {
  state: 'done'
  commit: string
  files: number
  bytes: number
  /** Bytes that this pod moved, and files of which it moved any; the others were there already. */
  moved: number
  filesMoved: number
  seconds: number
  /** Files that the evidence does not know (of looking and of removing; the first few). */
  unknown: string[]
  more?: More
  /** Of the verb plan only. */
  plan?: PlanNumbers
  /** Of a removal only. */
  removal?: RemovalNumbers
}

/** What is removed beside the model's files, and the unfinished uploads that are left, for they may be of a run elsewhere. */
export interface RemovalNumbers {
  /** The tool's own documents, the evidence among them. */
  leftovers: number
  uploads: number
  youngUploads: number
}

/** What a run would find and move; sizes in bytes. What is said of the volume counts only where it was mounted. */
export interface PlanNumbers {
  leftOutFiles: number
  leftOutBytes: number
  exclude: string[]
  include: string[]
  spacesFiles: number
  spacesBytes: number
  volumeFiles: number
  volumeBytes: number
  /** Files on the volume that would be replaced or removed. */
  changingFiles: number
  freeBytes: number
}

export interface MoverFailure {
  state: 'failed'
  cause: string
  detail: string
  next: string
  /** What verify found missing, wrong or unknown: the first paths of each, lists that are not empty. */
  paths: Record<string, string[]>
  more?: More
}

/** How many paths each of the lists leaves out, since a termination message is short; absent where they are whole. */
export type More = Record<string, number>

/** `a, b and 7 more` */
export function listPaths(names: readonly string[], more = 0): string {
  return more > 0 ? `${names.join(', ')} and ${more} more` : names.join(', ')
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
  const text = (name: string) => (typeof found[name] === 'string' ? formatPrintable(found[name]) : '')
  const number = (name: string) => (typeof found[name] === 'number' ? found[name] : 0)
  const list = (name: string) =>
    Array.isArray(found[name]) ? found[name].map((one) => formatPrintable(String(one))) : []
  const lists = ['missing', 'wrong', 'unknown'].map((name) => [name, list(name)] as const)
  const cut = lists
    .map(([name, names]) => [name, number(`${name}_files`) - names.length] as const)
    .filter(([, count]) => count > 0)
  const more = cut.length > 0 ? { more: Object.fromEntries(cut) } : {}
  if (found.state === 'failed') {
    const paths = Object.fromEntries(lists.filter(([, names]) => names.length > 0))
    return { state: 'failed', cause: text('cause'), detail: text('detail'), next: text('next'), paths, ...more }
  }
  if (found.state !== 'done') return undefined
  return {
    state: 'done',
    commit: text('commit'),
    files: number('files'),
    bytes: number('bytes'),
    moved: number('moved'),
    filesMoved: number('files_moved'),
    seconds: number('seconds'),
    unknown: list('unknown'),
    ...more,
    ...(typeof found.spaces_bytes === 'number' ? { plan: planOf(number, list) } : {}),
    ...(typeof found.leftovers === 'number' ? { removal: removalOf(number) } : {}),
  }
}

function removalOf(number: (name: string) => number): RemovalNumbers {
  return { leftovers: number('leftovers'), uploads: number('uploads'), youngUploads: number('young_uploads') }
}

function planOf(number: (name: string) => number, list: (name: string) => string[]): PlanNumbers {
  return {
    leftOutFiles: number('left_out_files'),
    leftOutBytes: number('left_out_bytes'),
    exclude: list('exclude'),
    include: list('include'),
    spacesFiles: number('spaces_files'),
    spacesBytes: number('spaces_bytes'),
    volumeFiles: number('volume_files'),
    volumeBytes: number('volume_bytes'),
    changingFiles: number('changing_files'),
    freeBytes: number('free_bytes'),
  }
}
