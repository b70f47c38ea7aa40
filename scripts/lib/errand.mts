import { Failure } from './failure.mts'
import { Follower, JobGone } from './follow.mts'
import { removeJob, startJob } from './job.mts'
import { type Kubectl, KubectlError } from './kubectl.mts'
import { annotation, type JobKind } from './labels.mts'
import { type JobManifest, renderJob, renderMover, type Variables } from './manifest.mts'
import type { Job, Metadata } from './objects.mts'
import { askPatiently } from './patience.mts'
import type { MoverDone } from './report.mts'
import type { Session } from './session.mts'

/** A net for a script that was killed, and for a Job that two have followed: else it is deleted once its answer is known. */
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
  /** Asked once the Job is there and before it has a pod; what it throws takes the Job back. */
  check?: () => Promise<void>
}

/** Runs the Job to its end and gives its report; a Job that we made for us alone is gone afterwards, also when we are interrupted. */
export async function runErrand(session: Session, errand: Errand): Promise<MoverDone | undefined> {
  const { settings, story, cluster } = session
  const { title, kind, doing, variables, edit, check } = errand
  const mover = await renderMover(settings.namespace)
  const manifest = await renderJob(kind, settings, mover.metadata.name, variables)
  edit?.(manifest)
  manifest.spec.ttlSecondsAfterFinished = TTL_SECONDS
  if (check) manifest.spec.suspend = true
  for (let tries = 1; ; tries += 1) {
    try {
      const { job, joined } = await startJob(session, title, manifest, mover)
      if (!joined && check) await resumeAfter(session, job, check)
      const running = `Job ${job.name} is running already`
      if (settings.dryRun) {
        story.would(title, joined ? `${running}: it would be joined` : `Job ${job.name} would be started: it ${doing}`)
        return undefined
      }
      story.begun(title, joined ? `${running}: joined` : `Job ${job.name} ${doing}`)
      if (joined) await noteJoined(cluster, job)
      return await new Follower(session, job, false).run()
    } catch (error) {
      // Somebody else is on the same errand and was done first: the Job was theirs to delete.
      if (!(error instanceof JobGone) || tries === TRIES) throw error
    } finally {
      await tidyUp(session, manifest.metadata)
    }
  }
}

async function resumeAfter(session: Session, { name, uid }: Metadata, check: () => Promise<void>): Promise<void> {
  await check()
  await askPatiently(session, () =>
    session.cluster.patch('job', name, [
      { op: 'test', path: '/metadata/uid', value: uid },
      { op: 'replace', path: '/spec/suspend', value: false },
    ]),
  )
}

/** Without the right to patch Jobs, whoever made it may delete it under us: then the errand is run again. */
async function noteJoined(cluster: Kubectl, { name, uid }: Metadata): Promise<void> {
  const path = `/metadata/annotations/${annotation.joined.replace('/', '~1')}`
  try {
    await cluster.patch('job', name, [
      { op: 'test', path: '/metadata/uid', value: uid },
      { op: 'add', path, value: 'true' },
    ])
  } catch (error) {
    if (!(error instanceof KubectlError)) throw error
  }
}

/** Deletes the Job if this run has made it and no other follows it. An interruption does not stop this. */
async function tidyUp(
  { cluster, story, signal }: Session,
  { name, annotations }: JobManifest['metadata'],
): Promise<void> {
  const door = cluster.afterInterruption()
  try {
    const job = await door.find<Job>('job', name)
    const notes = job?.metadata.annotations ?? {}
    if (!job || notes[annotation.run] !== annotations[annotation.run] || notes[annotation.joined]) return
    if (signal.aborted) await door.deleteJob(job.metadata, 'Background')
    else await removeJob(door, job.metadata, TIDY_SECONDS)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    story.detail(
      `Job ${name} could not be deleted, its TTL removes it ${TTL_SECONDS} s after its end: ${error.message}`,
    )
  }
}
