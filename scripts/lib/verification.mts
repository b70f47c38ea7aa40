import { diagnoseFailure, isTrue } from './diagnosis.mts'
import { Failure } from './failure.mts'
import { Follower, JobGone } from './follow.mts'
import { formatBytes } from './format.mts'
import { isFinished, removeJob, startJob } from './job.mts'
import { annotation, type JobKind, jobName, renderJob, renderMover } from './manifest.mts'
import type { Job, Pod } from './objects.mts'
import type { MoverDone } from './report.mts'
import type { Result, Session } from './session.mts'
import { stage } from './stages.mts'
import { decideStorage, readStorage, wantedClaim } from './storage.mts'
import { lineOf } from './story.mts'

/** One line of the verdict. */
export interface Checkpoint {
  title: string
  holds: boolean
  sentence: string
  /** What to run when it does not hold, else empty. */
  next: string
}

const TITLE = 'verify'
/** A net for a script that was killed: a verify Job is deleted as soon as its answer is known. */
const TTL_SECONDS = 60
const TRIES = 3
const TIDY_SECONDS = 10

/** The spec's three checkpoints, each looked at whatever the others say, and the verdict. */
export function verified(session: Session): Promise<Result> {
  return stage(TITLE, async () => {
    const claim = await checkClaim(session)
    const files = claim.holds ? await checkFiles(session) : notChecked(session, claim)
    const jobs = await checkJobs(session, files.holds)
    const checkpoints = [claim, files, jobs]
    const result = verdict(checkpoints, session.settings.model)
    const open = checkpoints.filter(({ holds }) => !holds)
    if (open[0]) {
      session.story.failed(
        TITLE,
        `${open.length} of ${checkpoints.length} checkpoints of ${session.settings.model} do not hold: ${open.map(({ title }) => title).join(', ')}`,
      )
      session.story.detail(open.length === 1 ? open[0].next : 'run make setup-model: it does what is missing, in order')
    } else session.story.done(TITLE, `${checkpoints.length} checkpoints hold`)
    return result
  })
}

/** One line a checkpoint and one for all of them. */
export function verdict(checkpoints: readonly Checkpoint[], model: string): Result {
  const open = checkpoints.filter(({ holds }) => !holds).map(({ title }) => title)
  const lines = checkpoints.map(({ holds, title, sentence, next }) =>
    holds ? lineOf('✓', title, sentence) : lineOf('✗', title, `${sentence}; ${next}`),
  )
  const good = open.length === 0
  const last = good
    ? lineOf('✓', 'verdict', `${model} is staged`)
    : lineOf('✗', 'verdict', `${model} is not proved to be staged: ${open.join(', ')}`)
  return { text: [...lines, last].join('\n'), good }
}

async function checkClaim({ cluster, settings }: Session): Promise<Checkpoint> {
  const title = 'claim'
  const found = await readStorage(cluster, settings)
  if (!found.claim)
    return { title, holds: false, sentence: `PVC ${settings.pvc} does not exist`, next: 'run make fix-pvc' }
  const decision = decideStorage(found, await wantedClaim(found, settings))
  if (decision.action === 'nothing') return { title, holds: true, sentence: decision.sentence, next: '' }
  if (decision.action === 'refuse') return { title, holds: false, sentence: decision.fact, next: decision.next }
  const state = found.claim ? (found.claim.status?.phase ?? 'Pending') : 'missing'
  return {
    title,
    holds: false,
    sentence: `PVC ${settings.pvc} is ${state}, not Bound to ${settings.pv}`,
    next: 'run make fix-pvc',
  }
}

function notChecked({ settings }: Session, claim: Checkpoint): Checkpoint {
  const sentence = `the files of ${settings.model} cannot be looked at without the claim`
  return { title: 'files', holds: false, sentence, next: claim.next }
}

async function checkFiles(session: Session): Promise<Checkpoint> {
  const title = 'files'
  try {
    const done = await runVerifyJob(session)
    return { title, holds: true, sentence: agreement(session, done), next: '' }
  } catch (error) {
    if (!(error instanceof Failure) || error.exitCode !== 1) throw error
    return { title, holds: false, sentence: error.message, next: error.next }
  }
}

function agreement({ settings }: Session, done: MoverDone | undefined): string {
  const what = { names: 'names', sizes: 'names and sizes', hashes: 'names, sizes and SHA-256' }[settings.level]
  if (!done) return `${what} agree with the evidence on the volume`
  const { files, bytes, commit, unknown } = done
  const strange = unknown.length > 0 ? `; not in the evidence: ${unknown.join(', ')}` : ''
  return `${files} files, ${formatBytes(bytes)}, commit ${commit.slice(0, 8)}: ${what} agree with the evidence${strange}`
}

/** The read-only Job that looks at the volume; it is gone afterwards, also when we are interrupted. */
async function runVerifyJob(session: Session): Promise<MoverDone | undefined> {
  const { settings, story, cluster } = session
  const mover = await renderMover(settings.namespace)
  const manifest = await renderJob('model-verify-nfs', settings, mover.metadata.name)
  manifest.spec.ttlSecondsAfterFinished = TTL_SECONDS
  const before = await cluster.find('job', manifest.metadata.name)
  for (let tries = 1; ; tries += 1) {
    try {
      const { job, joined } = await startJob(session, TITLE, manifest, mover)
      story.begun(TITLE, joined ? `Job ${job.name} is running already: joined` : `Job ${job.name} reads the volume`)
      return await new Follower(session, job, false).run()
    } catch (error) {
      // Somebody else verifies as well and was done first: the Job was theirs to delete.
      if (!(error instanceof JobGone) || tries === TRIES) throw error
    } finally {
      await tidyUp(session, manifest.metadata.name, before?.metadata.uid)
    }
  }
}

/** Deletes the verify Job, unless it was somebody else's before us and still runs. An interruption does not stop this. */
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

/** Both transfers completed, or their TTL has removed them and the evidence on the volume says that they did. */
async function checkJobs(session: Session, proved: boolean): Promise<Checkpoint> {
  const title = 'jobs'
  const kinds = ['model-upload-spaces', 'model-download-nfs'] as const
  const states = await Promise.all(kinds.map((kind) => jobState(session, kind, proved)))
  const open = states.filter(({ next }) => next)
  return {
    title,
    holds: open.length === 0,
    sentence: (open.length > 0 ? open : states).map(({ sentence }) => sentence).join('; '),
    next: open[0]?.next ?? '',
  }
}

async function jobState(
  { cluster, settings }: Session,
  kind: JobKind,
  proved: boolean,
): Promise<{ sentence: string; next?: string }> {
  const name = jobName(kind, settings.model)
  const again = `run make ${kind === 'model-upload-spaces' ? 'model-to-spaces' : 'model-to-nfs'}`
  const job = await cluster.find<Job>('job', name)
  if (!job || job.metadata.annotations?.[annotation.model] !== settings.model)
    return proved
      ? { sentence: `${name} is gone by its TTL, the evidence on the volume shows that it completed` }
      : { sentence: `there is no Job ${name} and no evidence that it completed`, next: again }
  if (isTrue(job.status.conditions, 'Complete'))
    return { sentence: `${name} completed at ${job.status.completionTime}` }
  if (!isTrue(job.status.conditions, 'Failed'))
    return { sentence: `${name} is running`, next: `${again}: it joins the Job and waits` }
  const pods = await cluster.list<Pod>('pods', `batch.kubernetes.io/controller-uid=${job.metadata.uid}`)
  const events = await cluster.events(job.metadata.uid)
  return { sentence: `the last run of ${name} failed: ${diagnoseFailure({ job, pods, events }).detail}`, next: again }
}
