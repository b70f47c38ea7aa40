import {
  type Diagnosis,
  describePod,
  diagnoseFailure,
  diagnosePod,
  diagnoseWaiting,
  hasLog,
  isTrue,
  newestPod,
  type Snapshot,
  terminated,
} from './diagnosis.mts'
import { Failure, Interrupted } from './failure.mts'
import { isFinished } from './job.mts'
import { CONTAINER } from './manifest.mts'
import type { Job, Metadata, Pod } from './objects.mts'
import { Pace, timeoutFailure } from './pace.mts'
import { PodLog } from './podlog.mts'
import { type MoverDone, parseReport } from './report.mts'
import type { Session } from './session.mts'

/** How long something that may heal (no node yet, a claim pending) is waited for. */
const GRACE_SECONDS = 120
const LOG_END_MS = 3000
const LAST_LINES = 10

/** The Job was deleted by somebody while it was followed. */
export class JobGone extends Failure {}

/** A Job that is followed to its end, with its log passed on as it comes. */
export class Follower {
  readonly #session: Session
  readonly #job: Metadata
  #log: PodLog | undefined
  #said = ''
  #hindered: { cause: string; since: number } | undefined
  readonly #failedPods = new Set<string>()

  constructor(session: Session, job: Metadata) {
    this.#session = session
    this.#job = job
  }

  /** Waits for Complete and gives the mover's report; throws on Failed, on what cannot heal, and after the timeout. */
  async run(): Promise<MoverDone | undefined> {
    const { settings, signal, story } = this.#session
    const pace = new Pace(settings.timeout, signal, story)
    const overdue = () => this.#overdue()
    try {
      for (;;) {
        const snapshot = await pace.look(() => this.#look(), overdue)
        await this.#tell(snapshot)
        if (isTrue(snapshot.job.status.conditions, 'Complete')) return await this.#completed(snapshot)
        if (isTrue(snapshot.job.status.conditions, 'Failed'))
          throw await this.#failed(diagnoseFailure(snapshot), snapshot)
        const hindrance = diagnoseWaiting(snapshot)
        if (this.#isHopeless(hindrance)) throw failureOf(hindrance)
        if (pace.over) throw overdue()
        await pace.wait()
      }
    } catch (error) {
      if (error instanceof Interrupted) this.#sayHowToComeBack()
      throw error
    } finally {
      await this.#log?.finish(0)
    }
  }

  async #look(): Promise<Snapshot> {
    const { cluster } = this.#session
    const { name, uid } = this.#job
    const job = await cluster.find<Job>('job', name)
    if (job?.metadata.uid !== uid || (job.metadata.deletionTimestamp && !isFinished(job)))
      throw new JobGone(
        `Job ${name} was deleted while it ran`,
        'run the same command again: it goes on where the Job stopped',
      )
    const pods = await cluster.list<Pod>('pods', `batch.kubernetes.io/controller-uid=${uid}`)
    const newest = newestPod(pods)
    // Events only matter while nothing runs: they say what the conditions leave out.
    const silent = !newest || !hasLog(newest)
    const of = newest ? newest.metadata.uid : uid
    const events = silent ? await cluster.events(of) : []
    return { job, pods, events }
  }

  /** Passes on what is new: the state of the newest pod, retries and their causes, log lines. */
  async #tell({ pods, job, events }: Snapshot): Promise<void> {
    const { story, cluster } = this.#session
    for (const pod of pods) {
      if (pod.status.phase !== 'Failed' || this.#failedPods.has(pod.metadata.uid)) continue
      this.#failedPods.add(pod.metadata.uid)
      if (isTrue(job.status.conditions, 'Failed')) continue
      if (this.#log?.pod === pod.metadata.name) await this.#log.finish(LOG_END_MS)
      story.detail(
        `pod ${pod.metadata.name} failed, the Job tries again: ${diagnosePod(pod)?.detail ?? 'no reason given'}`,
      )
    }
    const pod = newestPod(pods)
    const hindrance = diagnoseWaiting({ job, pods, events })
    const now = hindrance?.detail ?? (pod ? describePod(pod) : 'the Job has no pod yet')
    if (now !== this.#said && pod?.status.phase !== 'Failed' && pod?.status.phase !== 'Succeeded') story.detail(now)
    this.#said = now
    if (!pod || !hasLog(pod)) return
    if (this.#log?.pod !== pod.metadata.name) {
      await this.#log?.finish(0)
      this.#log = new PodLog(cluster, pod.metadata.name, (line) => story.detail(line))
    }
    this.#log?.resume()
  }

  async #completed({ pods }: Snapshot): Promise<MoverDone | undefined> {
    await this.#log?.finish(LOG_END_MS)
    const pod = newestPod(pods.filter((one) => one.status.phase === 'Succeeded'))
    const report = pod && parseReport(terminated(pod)?.message)
    return report?.state === 'done' ? report : undefined
  }

  async #failed(diagnosis: Diagnosis, { pods }: Snapshot): Promise<Failure> {
    const { cluster, story } = this.#session
    await this.#log?.finish(LOG_END_MS)
    const pod = newestPod(pods)
    // Whoever joins late, or whose pod ended faster than a log could be opened, has seen nothing of it.
    if (pod && hasLog(pod) && !(this.#log?.pod === pod.metadata.name && this.#log.shown))
      for (const line of await cluster.lastLines(pod.metadata.name, CONTAINER, LAST_LINES)) story.detail(line)
    return failureOf(diagnosis)
  }

  #isHopeless(hindrance: Diagnosis | undefined): hindrance is Diagnosis {
    if (!hindrance) {
      this.#hindered = undefined
      return false
    }
    if (this.#hindered?.cause !== hindrance.cause) this.#hindered = { cause: hindrance.cause, since: Date.now() }
    return hindrance.fatal || Date.now() - this.#hindered.since > GRACE_SECONDS * 1000
  }

  #overdue(): Failure {
    const { settings } = this.#session
    return timeoutFailure(
      `Job ${this.#job.name} is not done after ${settings.timeout} s; it goes on in the cluster`,
      'run the same command again to follow it, with a longer --timeout if need be',
    )
  }

  #sayHowToComeBack(): void {
    const { cluster, story } = this.#session
    story.detail(`Job ${this.#job.name} goes on in the cluster. Follow it: run the same command again.`)
    story.detail(`Stop it: ${cluster.command('delete', 'job', this.#job.name)}`)
  }
}

function failureOf({ detail, next }: Diagnosis): Failure {
  return new Failure(detail, next)
}
