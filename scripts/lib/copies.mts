import { runErrand } from './errand.mts'
import { Failure } from './failure.mts'
import { formatBytes } from './format.mts'
import type { JobKind } from './manifest.mts'
import { listPaths, type MoverDone } from './report.mts'
import type { Session } from './session.mts'

/** One of a model's two copies, and what there is of it. */
export interface Copy {
  kind: Extract<JobKind, 'model-clean-spaces' | 'model-clean-nfs'>
  /** As in `left in Spaces`. */
  place: string
  address: string
  found: MoverDone
}

const NOTHING = { leftovers: 0, uploads: 0, youngUploads: 0 }

/** What there is of the copies that were named on the command line, from Jobs that change nothing. */
export async function lookAtCopies(session: Session, title: string): Promise<Copy[]> {
  const { spaces, nfs, bucket, pvc, model } = session.settings
  const sides: Omit<Copy, 'found'>[] = [
    ...(nfs ? [{ kind: 'model-clean-nfs', place: 'the volume', address: `${pvc}:/${model}/` } as const] : []),
    ...(spaces
      ? [{ kind: 'model-clean-spaces', place: 'Spaces', address: `s3://${bucket}/models/${model}/` } as const]
      : []),
  ]
  const copies: Copy[] = []
  for (const side of sides) {
    const found = await runErrand(session, { title, kind: side.kind, doing: `looks at what there is in ${side.place}` })
    if (!found) throw new Failure(`what there is in ${side.place} got lost with its pod`, `try again: ${session.again}`)
    copies.push({ ...side, found })
  }
  return copies
}

export function isEmpty({ found }: Copy): boolean {
  return found.files + (found.removal?.leftovers ?? 0) + (found.removal?.uploads ?? 0) === 0
}

/** Removes the copy; whatever ends it early, the next run goes on. */
export async function removeCopy(session: Session, title: string, { kind, place }: Copy): Promise<void> {
  await runErrand(session, { title, kind, doing: `removes the copy in ${place}`, variables: { CONFIRMED: 'true' } })
}

/** `s3://bucket/models/a/b/: 13 files, 16.1 GB, commit 0e9e39f2, and 1 document of this tool` */
export function describeCopy({ address, found }: Copy): string {
  const { files, bytes, commit, removal: { leftovers, uploads } = NOTHING } = found
  const what = [
    `${count(files, 'file')}, ${formatBytes(bytes)}${commit ? `, commit ${commit.slice(0, 8)}` : ''}`,
    ...(leftovers > 0 ? [count(leftovers, 'document of this tool', 'documents of this tool')] : []),
    ...(uploads > 0 ? [count(uploads, 'abandoned upload')] : []),
  ]
  return `${address} ${what.join(', and ')}`
}

/** What stays, and why. */
export function describeLeft({ place, found }: Copy): string[] {
  const { unknown, more, removal: { youngUploads } = NOTHING } = found
  const why = `left in ${place}, as nothing lists ${unknown.length === 1 ? 'it' : 'them'} as the model's`
  return [
    ...(unknown.length > 0 ? [`${why}: ${listPaths(unknown, more?.unknown)}`] : []),
    ...(youngUploads > 0
      ? [
          `left in ${place}, as a run elsewhere may be at it: ${count(youngUploads, 'unfinished upload')} of the last 15 minutes; run the same command again later`,
        ]
      : []),
  ]
}

function count(number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`
}
