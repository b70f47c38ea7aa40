import { type Errand, runErrand } from './errand.mts'
import { Failure } from './failure.mts'
import { formatBytes, formatCount } from './format.mts'
import type { JobKind } from './labels.mts'
import { listPaths, type MoverDone } from './report.mts'
import { refuseBeside } from './rivals.mts'
import type { Session } from './session.mts'
import type { Settings } from './settings.mts'
import { isTransfer } from './work.mts'

/** Where one of a model's two copies is. */
export interface Side {
  kind: Extract<JobKind, 'model-clean-spaces' | 'model-clean-nfs'>
  /** As in `left in Spaces`. */
  place: string
  address: string
}

/** A copy, and what there is or was of it. */
export interface Copy extends Side {
  found: MoverDone
}

const NOTHING = { leftovers: 0, uploads: 0, youngUploads: 0 }

/** The sides that were named on the command line. */
export function sidesOf({ spaces, nfs, bucket, pvc, model }: Settings): Side[] {
  return [
    ...(nfs ? [{ kind: 'model-clean-nfs', place: 'the volume', address: `${pvc}:/${model}/` } as const] : []),
    ...(spaces
      ? [{ kind: 'model-clean-spaces', place: 'Spaces', address: `s3://${bucket}/models/${model}/` } as const]
      : []),
  ]
}

/** What there is of the copy, from a Job that changes nothing. */
export async function lookAtCopy(session: Session, title: string, side: Side): Promise<Copy> {
  return reported(session, side, await runErrand(session, look(title, side)))
}

/** The Jobs that would look at the copy and remove it, as --dry-run has them. */
export async function rehearseRemoval(session: Session, title: string, side: Side): Promise<void> {
  await runErrand(session, look(title, side))
  await runErrand(session, removal(session, title, side))
}

/** Removes the copy, and gives what was removed of it; whatever ends it early, the next run goes on. */
export async function removeCopy(session: Session, title: string, side: Side): Promise<Copy> {
  return reported(session, side, await runErrand(session, removal(session, title, side)))
}

function look(title: string, { kind, place }: Side): Errand {
  return { title, kind, doing: `looks at what there is in ${place}` }
}

function removal(session: Session, title: string, { kind, place }: Side): Errand {
  const check = () => refuseBeside(session, isTransfer)
  return { title, kind, doing: `removes the copy in ${place}`, variables: { CONFIRMED: 'true' }, check }
}

function reported({ again }: Session, side: Side, found: MoverDone | undefined): Copy {
  if (found) return { ...side, found }
  throw new Failure('report-lost', `the report on ${side.place} got lost with its pod`, `try again: ${again}`)
}

export function isEmpty({ found }: Copy): boolean {
  return found.files + (found.removal?.leftovers ?? 0) + (found.removal?.uploads ?? 0) === 0
}

/** `s3://bucket/models/a/b/: 13 files, 16.1 GB, commit 0e9e39f2, and 1 document of this tool` */
export function describeCopy({ address, found }: Copy): string {
  const { files, bytes, commit, removal: { leftovers, uploads } = NOTHING } = found
  const what = [
    `${formatCount(files, 'file')}, ${formatBytes(bytes)}${commit ? `, commit ${commit.slice(0, 8)}` : ''}`,
    ...(leftovers > 0 ? [formatCount(leftovers, 'document of this tool', 'documents of this tool')] : []),
    ...(uploads > 0 ? [formatCount(uploads, 'abandoned upload')] : []),
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
          `left in ${place}, since another run may still be writing them: ${formatCount(youngUploads, 'unfinished upload')} of the last 15 minutes; run the same command again later`,
        ]
      : []),
  ]
}
