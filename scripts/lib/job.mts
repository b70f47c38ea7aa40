import { setTimeout as sleep } from 'node:timers/promises'
import { Failure } from './failure.mts'
import { formatList } from './format.mts'
import { type Kubectl, KubectlError } from './kubectl.mts'
import { annotation, podsOf } from './labels.mts'
import { askedOf, type ConfigMapManifest, hashOf, type JobManifest, settingsOf } from './manifest.mts'
import type { Job, Metadata, Pod } from './objects.mts'
import { Pace, timeoutFailure } from './pace.mts'
import { askPatiently, unlessAway } from './patience.mts'
import { trueCondition } from './pod.mts'
import type { Session } from './session.mts'
import { isStranded } from './work.mts'

const LOOK_MS = 200
/** After this a Job that should be gone, or going on, is talked about; most are within two seconds. */
const LONG_MS = 5000

/** A Job to follow, and whether it was there before us. */
export interface Started {
  job: Metadata
  joined: boolean
}

/** What to do about the Job that stands under the wanted one's name. */
export type Decision =
  | { action: 'create' }
  | { action: 'wait-until-gone'; job: Metadata }
  | { action: 'replace'; job: Metadata; what: string }
  | { action: 'join'; job: Metadata }
  /** Our own create, whose answer got lost. */
  | { action: 'follow'; job: Metadata }
  /** A removal that has not yet looked whether it is alone: it goes on in a moment, unless whoever made it is gone. */
  | { action: 'wait-until-resumed'; job: Metadata }
  | { action: 'refuse'; fact: string; next: string }

/** Pure: a running Job's work is never thrown away unasked, and a Job of another model is never taken for ours. */
export function decide(found: Job | undefined, wanted: JobManifest, restart: boolean): Decision {
  if (!found) return { action: 'create' }
  const job = found.metadata
  if (job.deletionTimestamp) return { action: 'wait-until-gone', job }
  const { name } = job
  const run = wanted.metadata.annotations[annotation.run]
  if (run !== undefined && job.annotations?.[annotation.run] === run) return { action: 'follow', job }
  const model = job.annotations?.[annotation.model]
  const finished = isFinished(found)
  if (model !== wanted.metadata.annotations[annotation.model])
    return {
      action: 'refuse',
      fact: `Job ${name} ${finished ? 'was' : 'is running'} for ${model ? `another model, ${model}` : 'a model that it does not name'}: both ids shorten to the same Job name`,
      next: `${finished ? 'delete it when nobody needs its report any more' : 'wait until it is done'}, then run the same command again`,
    }
  if (finished) return { action: 'replace', job, what: `finished Job ${name}` }
  if (restart) return { action: 'replace', job, what: `running Job ${name} (--restart)` }
  if (isStranded(found)) return { action: 'wait-until-resumed', job }
  const running = askedOf(found)
  const asked = settingsOf(wanted.spec)
  if (hashOf(running) === hashOf(asked)) return { action: 'join', job }
  return {
    action: 'refuse',
    fact: `Job ${name} is running with other settings: ${differences(running, asked)}`,
    next: 'wait for it, or replace it with --restart',
  }
}

/** Variables of ours; another one was set by hand, and may hold a secret. */
const SHOWN =
  /^(model|image|memory|claim|MODEL|REVISION|INCLUDE|EXCLUDE|BUCKET|ENDPOINT|HF_ENDPOINT|AWS_DEFAULT_REGION|BUFFER|LEVEL|REPAIR|MODELS_DIR)$/

/** `REVISION is v1 there, main here`: what two sets of settings disagree in. */
export function differences(there: Record<string, string>, here: Record<string, string>): string {
  const names = [...new Set([...Object.keys(there), ...Object.keys(here)])].sort()
  const shown = (value: string | undefined) => (value === undefined ? 'not set' : value === '' ? 'empty' : value)
  return names
    .filter((name) => there[name] !== here[name])
    .map((name) =>
      SHOWN.test(name) ? `${name} is ${shown(there[name])} there, ${shown(here[name])} here` : `${name} differs`,
    )
    .join('; ')
}

/** Complete or Failed; SuccessCriteriaMet and FailureTarget come before the pods have ended. */
export function isFinished(job: Job): boolean {
  return (
    trueCondition(job.status.conditions, 'Complete') !== undefined ||
    trueCondition(job.status.conditions, 'Failed') !== undefined
  )
}

/** Starts the Job, or joins the one that runs already with the same settings. A finished one is deleted first. */
export async function startJob(
  session: Session,
  title: string,
  wanted: JobManifest,
  mover: ConfigMapManifest,
): Promise<Started> {
  const { cluster, settings, story, signal } = session
  const { name } = wanted.metadata
  const pace = new Pace(settings.timeout, signal, story)
  const standing = new Standing()
  const look = () => askPatiently(session, () => cluster.find<Job>('job', name))
  const remove = async (job: Metadata, what: string) => {
    if (!(await unlessAway(session, pace, () => cluster.deleteJob(job, 'Foreground')))) return
    if (settings.dryRun) story.would(title, `${what} would be deleted`)
    else story.begun(title, `${what} is deleted first`)
  }
  const first = await look()
  for (let found = first; ; found = await look()) {
    // --restart is for the Job that was there: one that appears later is somebody else's start in the same moment.
    const decision = decide(found, wanted, settings.restart && found?.metadata.uid === first?.metadata.uid)
    switch (decision.action) {
      case 'refuse':
        throw new Failure('other-job', decision.fact, decision.next)
      case 'join':
        return { job: decision.job, joined: true }
      case 'follow':
        return { job: decision.job, joined: false }
      case 'create': {
        const created = await createPatiently(session, pace, wanted, mover)
        if (created) return { job: created, joined: false }
        break
      }
      case 'replace':
        await remove(decision.job, decision.what)
        break
      case 'wait-until-resumed':
        if (standing.isLong(decision)) await remove(decision.job, `Job ${name}, which was never begun,`)
        else await pace.wait()
        break
      case 'wait-until-gone':
        // It was looked at: the cluster is not silent.
        pace.hear()
        if (pace.over) throw await stuck(session, decision.job)
        if (standing.isToBeTold(decision))
          story.detail(`Job ${name} is still there: ${await whatHolds(session, decision.job)}`)
        await pace.wait()
    }
  }
}

/** For how long the same Job has called for the same patience. */
class Standing {
  #key = ''
  #since = 0
  #isTold = false

  /** Longer than most. */
  isLong({ action, job }: { action: string; job: Metadata }): boolean {
    const key = `${action} ${job.uid}`
    if (key !== this.#key) {
      this.#key = key
      this.#since = performance.now()
      this.#isTold = false
    }
    return performance.now() - this.#since >= LONG_MS
  }

  /** The same, once. */
  isToBeTold(decision: { action: string; job: Metadata }): boolean {
    const isDue = this.isLong(decision) && !this.#isTold
    this.#isTold ||= isDue
    return isDue
  }
}

/** Undefined where the next look has to tell what became of it. */
async function createPatiently(
  session: Session,
  pace: Pace,
  wanted: JobManifest,
  mover: ConfigMapManifest,
): Promise<Metadata | undefined> {
  const { cluster } = session
  const created = await unlessAway(session, pace, () => create(cluster, wanted, mover))
  if (!created) return undefined
  // Before there was a Job that uses it, clean may have taken it for nobody's.
  await unlessAway(session, pace, () => provide(cluster, mover))
  return created.metadata
}

/** Deletes the Job and waits, for some seconds, until its pods are gone too. */
export async function removeJob(cluster: Kubectl, job: Metadata, seconds: number): Promise<void> {
  if (!(await cluster.deleteJob(job, 'Foreground'))) return
  const deadline = Date.now() + seconds * 1000
  while (Date.now() < deadline && (await cluster.find<Job>('job', job.name))?.metadata.uid === job.uid)
    await sleep(LOOK_MS)
}

/** The ConfigMap is immutable and named by its content: the one that is there is the right one. */
async function provide(cluster: Kubectl, mover: ConfigMapManifest): Promise<void> {
  const { name } = mover.metadata
  if (await cluster.find('configmap', name)) return
  try {
    await cluster.create(mover)
  } catch (error) {
    if (!(error instanceof KubectlError && error.reason === 'exists')) throw error
  }
}

/** Undefined when somebody else was first; the next look tells whether their Job suits us. */
async function create(
  cluster: Kubectl,
  wanted: JobManifest,
  mover: ConfigMapManifest,
): Promise<Pick<Job, 'metadata'> | undefined> {
  await provide(cluster, mover)
  try {
    return await cluster.create<Job>(wanted)
  } catch (error) {
    if (error instanceof KubectlError && error.reason === 'exists') return undefined
    throw error
  }
}

async function stuck(session: Session, job: Metadata): Promise<Failure> {
  const { cluster } = session
  return timeoutFailure(
    `Job ${job.name} is still being deleted: ${await whatHolds(session, job)}`,
    `look at it with ${cluster.command('describe', 'job', job.name)}`,
  )
}

/** Why a deleted Job does not go. */
async function whatHolds(session: Session, { uid, finalizers = [] }: Metadata): Promise<string> {
  const pods = await askPatiently(session, () => session.cluster.list<Pod>('pods', podsOf(uid)))
  const names = pods.map(({ metadata, spec }) => `pod ${metadata.name}${spec.nodeName ? ` on ${spec.nodeName}` : ''}`)
  if (names.length > 0) return `${formatList(names, 3)} ${names.length === 1 ? 'has' : 'have'} not ended`
  const strange = finalizers.filter((name) => name !== 'foregroundDeletion')
  return strange.length > 0 ? `its finalizer ${strange.join(', ')} holds it` : 'its controller has not let it go yet'
}
