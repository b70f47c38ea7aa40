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
  #lastLine = ''
  #keptBack: string[] = []
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
    const { name, uid, labels } = this.#job
    // One kubectl for both: the pods bear their Job's labels.
    const same = ['app.kubernetes.io/name', 'app.kubernetes.io/instance'].map((label) => `${label}=${labels?.[label]}`)
    const found = await cluster.list<Job | Pod>('jobs,pods', same.join(','))
    const job = found.find((one): one is Job => one.kind === 'Job' && one.metadata.uid === uid)
    if (!job || (job.metadata.deletionTimestamp && !isFinished(job)))
      throw new JobGone(`Job ${name} was deleted while it ran`, `start it again: ${this.#session.again}`)
    const pods = found.filter((one): one is Pod => one.kind === 'Pod' && isOwnedBy(one, uid))
    const newest = newestPod(pods)
    // Events only matter while nothing runs: they say what the conditions leave out.
    const silent = !newest || !hasLog(newest)
    const events = silent ? await cluster.events(newest ? newest.metadata.uid : uid) : []
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
    const now = diagnoseWaiting({ job, pods, events })?.detail ?? (pod && describePod(pod))
    if (now && now !== this.#said) story.detail(now)
    this.#said = now ?? this.#said
    if (!pod || !hasLog(pod)) return
    if (this.#log?.pod !== pod.metadata.name) {
      await this.#log?.finish(0)
      this.#log = new PodLog(cluster, pod.metadata.name, (line) => this.#pass(line))
    }
    this.#log.resume(terminated(pod) !== undefined)
  }

  /** The mover ends with its cause and next step, which are ours to say, last: they are kept back. */
  #pass(line: string): void {
    if (/^(failed|next): /.test(line)) this.#keptBack.push(line)
    else if (line !== this.#lastLine) this.#session.story.detail(line)
    this.#lastLine = line
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
    // A termination message that got lost on the way leaves these as the only words there are.
    if (pod && !parseReport(terminated(pod)?.message)) for (const line of this.#keptBack) story.detail(line)
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
      `follow it again: ${this.#session.again}`,
    )
  }

  #sayHowToComeBack(): void {
    const { cluster, story, again } = this.#session
    story.detail(`Job ${this.#job.name} goes on in the cluster`)
    story.detail(`follow it again: ${again}`)
    story.detail(`stop it: ${cluster.command('delete', 'job', this.#job.name)}`)
  }
}

function isOwnedBy({ metadata }: Pod, uid: string): boolean {
  return metadata.ownerReferences?.some((owner) => owner.uid === uid) ?? false
}

function failureOf({ detail, next }: Diagnosis): Failure {
  return new Failure(detail, next)
}
