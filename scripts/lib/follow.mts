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
import type { Job, Metadata, Pod } from './objects.mts'
import { Pace, timeoutFailure } from './pace.mts'
import { PodLog } from './podlog.mts'
import { parseProgress } from './progress.mts'
import { type MoverDone, parseReport } from './report.mts'
import type { Session } from './session.mts'

/** How long something that may heal (no node yet, a claim pending) is waited for. */
const GRACE_SECONDS = 120
const LOG_END_MS = 3000

/** The Job was deleted by somebody while it was followed. */
export class JobGone extends Failure {}

/** A Job that is followed to its end, with its log passed on as it comes. */
export class Follower {
  readonly #session: Session
  readonly #job: Metadata
  readonly #stays: boolean
  #log: PodLog | undefined
  #said = ''
  #hindered: { cause: string; since: number } | undefined
  #lastLine = ''
  #keptBack: string[] = []
  readonly #failedPods = new Set<string>()

  /** `stays`: the Job goes on without us, and whoever is told of an end is told how to come back. */
  constructor(session: Session, job: Metadata, stays: boolean) {
    this.#session = session
    this.#job = job
    this.#stays = stays
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
        if (isTrue(snapshot.job.status.conditions, 'Failed')) throw this.#failed(snapshot)
        const hindrance = diagnoseWaiting(snapshot)
        if (this.#isHopeless(hindrance)) {
          if (this.#stays) story.advice(`Job ${this.#job.name} stays in the cluster as it is; ${this.#howToStop()}`)
          throw failureOf(hindrance)
        }
        if (pace.over) throw overdue()
        await pace.wait()
      }
    } catch (error) {
      if (error instanceof Interrupted && this.#stays) this.#sayHowToComeBack()
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
    const { story } = this.#session
    for (const pod of pods) {
      if (pod.status.phase !== 'Failed' || this.#failedPods.has(pod.metadata.uid)) continue
      this.#failedPods.add(pod.metadata.uid)
      await this.#drain(pod)
      if (isTrue(job.status.conditions, 'Failed')) continue
      const why = diagnosePod(pod)?.detail ?? 'no reason given'
      story.detail(`pod ${pod.metadata.name} failed, the Job tries again: ${why}`)
    }
    const pod = newestPod(pods)
    const hindrance = diagnoseWaiting({ job, pods, events })
    const now = hindrance?.detail ?? (pod && describePod(pod))
    // What ends the wait is said at the end.
    if (now && now !== this.#said && !hindrance?.fatal) story.detail(now)
    this.#said = now ?? this.#said
    if (pod && hasLog(pod)) (await this.#logOf(pod)).resume(terminated(pod) !== undefined)
  }

  async #completed({ pods }: Snapshot): Promise<MoverDone | undefined> {
    const pod = newestPod(pods.filter((one) => one.status.phase === 'Succeeded'))
    if (!pod) return undefined
    await this.#drain(pod)
    const report = parseReport(terminated(pod)?.message)
    return report?.state === 'done' ? report : undefined
  }

  #failed(snapshot: Snapshot): Failure {
    const pod = newestPod(snapshot.pods)
    // A termination message that got lost on the way leaves these as the only words there are.
    if (pod && !parseReport(terminated(pod)?.message))
      for (const line of this.#keptBack) this.#session.story.detail(line)
    return failureOf(diagnoseFailure(snapshot))
  }

  async #logOf(pod: Pod): Promise<PodLog> {
    const { name } = pod.metadata
    if (this.#log?.pod !== name) {
      await this.#log?.finish(0)
      this.#keptBack = []
      this.#log = new PodLog(this.#session.cluster, name, (line) => this.#pass(line))
    }
    return this.#log
  }

  /** The rest of what a pod that has ended wrote. */
  async #drain(pod: Pod): Promise<void> {
    if (!hasLog(pod)) return
    const log = await this.#logOf(pod)
    log.resume(true)
    await log.finish(LOG_END_MS)
  }

  #pass(line: string): void {
    const progress = parseProgress(line)
    // The mover's last two lines are its cause and next step, which are ours to say, at the end.
    if (/^(failed|next): /.test(line)) this.#keptBack.push(line)
    else if (progress) this.#session.story.progress(progress)
    else if (line !== '' && line !== this.#lastLine) this.#session.story.detail(line)
    this.#lastLine = line
  }

  #isHopeless(hindrance: Diagnosis | undefined): hindrance is Diagnosis {
    if (!hindrance) {
      this.#hindered = undefined
      return false
    }
    if (this.#hindered?.cause !== hindrance.cause) this.#hindered = { cause: hindrance.cause, since: performance.now() }
    return hindrance.fatal || performance.now() - this.#hindered.since > GRACE_SECONDS * 1000
  }

  #overdue(): Failure {
    const { settings, again } = this.#session
    const fact = `Job ${this.#job.name} is not done after ${settings.timeout} s`
    return this.#stays
      ? timeoutFailure(`${fact}; it goes on in the cluster`, `follow it again: ${again}`)
      : timeoutFailure(fact, 'give it longer with --timeout')
  }

  #sayHowToComeBack(): void {
    const { story, again } = this.#session
    story.advice(`Job ${this.#job.name} goes on in the cluster; ${this.#howToStop()}`)
    story.advice(`follow it again: ${again}`)
  }

  #howToStop(): string {
    return `to stop it: ${this.#session.cluster.command('delete', 'job', this.#job.name)}`
  }
}

function isOwnedBy({ metadata }: Pod, uid: string): boolean {
  return metadata.ownerReferences?.some((owner) => owner.uid === uid) ?? false
}

function failureOf({ cause, detail, next }: Diagnosis): Failure {
  const failure = new Failure(detail, next)
  failure.reason = cause
  return failure
}
