import { Failure } from './failure.mts'
import { Follower, JobGone } from './follow.mts'
import { isFinished, removeJob, startJob } from './job.mts'
import { type JobKind, type JobManifest, renderJob, renderMover, type Variables } from './manifest.mts'
import type { Job } from './objects.mts'
import type { MoverDone } from './report.mts'
import type { Session } from './session.mts'

/** A net for a script that was killed: an errand's Job is deleted as soon as its answer is known. */
const TTL_SECONDS = 60
const TRIES = 3
const TIDY_SECONDS = 10

/** A short Job whose answer is all that is wanted of it. */
export interface Errand {
  title: string
  kind: JobKind
  /** What the Job does, as in `Job x reads the volume`. */
  doing: string
  variables?: Variables
  edit?: (manifest: JobManifest) => void
}

/** Runs the Job to its end and gives its report; the Job is gone afterwards, also when we are interrupted. */
export async function runErrand(session: Session, errand: Errand): Promise<MoverDone | undefined> {
  const { settings, story, cluster } = session
  const { title, kind, doing, variables, edit } = errand
  const mover = await renderMover(settings.namespace)
  const manifest = await renderJob(kind, settings, mover.metadata.name, variables)
  edit?.(manifest)
  manifest.spec.ttlSecondsAfterFinished = TTL_SECONDS
  const before = await cluster.find('job', manifest.metadata.name)
  for (let tries = 1; ; tries += 1) {
    try {
      const { job, joined } = await startJob(session, title, manifest, mover)
      story.begun(title, joined ? `Job ${job.name} is running already: joined` : `Job ${job.name} ${doing}`)
      if (settings.dryRun) return undefined
      return await new Follower(session, job, false).run()
    } catch (error) {
      // Somebody else is on the same errand and was done first: the Job was theirs to delete.
      if (!(error instanceof JobGone) || tries === TRIES) throw error
    } finally {
      await tidyUp(session, manifest.metadata.name, before?.metadata.uid)
    }
  }
}

/** Deletes the Job, unless it was somebody else's before us and still runs. An interruption does not stop this. */
async function tidyUp({ cluster, story, signal }: Session, name: string, before: string | undefined): Promise<void> {
  const door = cluster.afterInterruption()
  try {
    const job = await door.find<Job>('job', name)
    if (!job || (job.metadata.uid === before && !isFinished(job))) return
    if (signal.aborted) await door.deleteJob(job.metadata, 'Background')
    else await removeJob(door, job.metadata, TIDY_SECONDS)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    story.detail(
      `Job ${name} could not be deleted, its TTL removes it ${TTL_SECONDS} s after its end: ${error.message}`,
    )
  }
}
