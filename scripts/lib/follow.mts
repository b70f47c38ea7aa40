import { withSettingsNamed } from './advice.mts'
import type { Diagnosis } from './cause.mts'
import { deletedPod, diagnoseFailure, diagnosePod, diagnoseWaiting, type Snapshot } from './diagnosis.mts'
import { Failure, Interrupted } from './failure.mts'
import { formatSeconds } from './format.mts'
import { isFinished } from './job.mts'
import { KubectlError } from './kubectl.mts'
import { podsOf } from './labels.mts'
import type { Job, Metadata, Node, Pod } from './objects.mts'
import { Pace, type Silence, timeoutFailure } from './pace.mts'
import {
  hasLog,
  isRunning,
  livePod,
  mayBeLost,
  newestPod,
  phaseOf,
  terminated,
  trueCondition,
  unscheduledBecause,
} from './pod.mts'
import { PodLog } from './podlog.mts'
import { isAllThere, parseProgress } from './progress.mts'
import { type MoverDone, parseReport } from './report.mts'
import type { Session } from './session.mts'
import { Stall } from './stall.mts'

const LOG_END_MS = 3000
/** The mover's exit code for what no retry can help: the Job's podFailurePolicy ends it. */
const PERMANENT = 64
const DEFAULT_BACKOFF_LIMIT = 6
/** Lines of a failed pod's log that are told where the log itself was not. */
const TAIL = 10

/** What the last pod of a Job reports, and how many had failed or were lost before it. */
export interface JobDone extends MoverDone {
  earlierPods: number
}

/** The Job is not there any more. */
export class JobGone extends Failure {
  /** Its TTL may have removed it when it was done: nobody has looked for as long as that. */
  readonly mayBeDone: boolean

  constructor(fact: string, next: string, mayBeDone: boolean) {
    super('job-deleted', fact, next)
    this.mayBeDone = mayBeDone
  }
}

/** A Job that is followed to its end, with its log passed on as it comes. */
export class Follower {
  readonly #session: Session
  readonly #job: Metadata
  readonly #stays: boolean
  #log: PodLog | undefined
  #said = ''
  #hindered: { by: Diagnosis; since: number } | undefined
  readonly #stall: Stall
  #lastLine = ''
  #tail: string[] = []
  #keptBack: string[] = []
  /** Names of the pods that are there or were, by uid, and those whose end was told. */
  readonly #pods = new Map<string, string>()
  readonly #ended = new Set<string>()
  /** What became of the last pod that ended badly, for when nothing else is left of it. */
  #lastEnd: Diagnosis | undefined
  #nodesHidden = false
  /** When the Job was seen last, by the clock that goes on while a laptop sleeps, and its TTL in seconds. */
  #seen: { at: number; ttl: number | undefined } = { at: Date.now(), ttl: undefined }
  /** Whether the user knows what becomes of the Job when this run ends. */
  #isSettled = false

  /** `stays`: the Job goes on without us, and whoever is told of an end is told how to come back. */
  constructor(session: Session, job: Metadata, stays: boolean) {
    this.#session = session
    this.#job = job
    this.#stays = stays
    this.#stall = new Stall(session.settings.grace)
  }

  /** Waits for Complete and gives the mover's report; throws on Failed, on what cannot heal, and after the timeout. */
  async run(): Promise<JobDone | undefined> {
    const { settings, signal, story } = this.#session
    const pace = new Pace(settings.timeout, signal, story)
    const overdue = (silence?: Silence) => this.#overdue(silence)
    try {
      for (;;) {
        const snapshot = await pace.look(() => this.#look(), overdue)
        await this.#tell(snapshot)
        if (trueCondition(snapshot.job.status.conditions, 'Complete')) return await this.#completed(snapshot)
        if (trueCondition(snapshot.job.status.conditions, 'Failed')) throw this.#failed(snapshot)
        const hindrance = this.#hindered?.by
        if (hindrance && this.#isHopeless()) {
          this.#isSettled = true
          if (this.#stays) story.advice(`Job ${this.#job.name} stays in the cluster as it is; ${this.#howToStop()}`)
          throw failureOf(hindrance)
        }
        if (pace.over) throw overdue()
        await pace.wait()
      }
    } catch (error) {
      if (this.#stays && !this.#isSettled && !(error instanceof JobGone)) this.#sayHowToComeBack(error)
      throw error
    } finally {
      await this.#log?.end()
    }
  }

  async #look(): Promise<Snapshot> {
    const { cluster } = this.#session
    const { name, uid } = this.#job
    // By what Kubernetes itself puts on them: a Job of somebody else's making that is joined may bear no labels of ours.
    const list = () => cluster.list<Pod>('pods', podsOf(uid))
    const [job, pods] = await Promise.all([cluster.find<Job>('job', name), list()])
    if (!job || job.metadata.uid !== uid) throw this.#gone()
    if (job.metadata.deletionTimestamp && !isFinished(job)) throw this.#deleted()
    this.#seen = { at: Date.now(), ttl: job.spec.ttlSecondsAfterFinished }
    // A list that was made a moment before the Job's end does not show how its pods ended.
    if (isFinished(job)) return { job, pods: await list(), events: [] }
    const live = livePod(pods)
    // Events and nodes only matter where nothing runs: they say what the conditions leave out.
    const silent = !live || !hasLog(live)
    const [events, nodes] = await Promise.all([
      silent ? cluster.eventsIfPermitted(live?.metadata.uid ?? uid) : [],
      live && (unscheduledBecause(live) || mayBeLost(live)) ? this.#nodes() : undefined,
    ])
    return { job, pods, events, ...(nodes ? { nodes } : {}) }
  }

  #deleted(): JobGone {
    return new JobGone(
      `Job ${this.#job.name} was deleted while it ran`,
      `start it again: ${this.#session.again}`,
      false,
    )
  }

  #gone(): JobGone {
    const { at, ttl } = this.#seen
    const seconds = (Date.now() - at) / 1000
    if (ttl === undefined || seconds < ttl) return this.#deleted()
    return new JobGone(
      `Job ${this.#job.name} is gone since it was last looked at ${formatSeconds(seconds)} ago: it was done and removed by its TTL, or deleted`,
      `look again: ${this.#session.again}`,
      true,
    )
  }

  /** Undefined: this user may not look at them. */
  async #nodes(): Promise<Node[] | undefined> {
    if (this.#nodesHidden) return undefined
    try {
      return await this.#session.cluster.list<Node>('nodes', '')
    } catch (error) {
      if (!(error instanceof KubectlError) || error.reason !== 'forbidden') throw error
      this.#nodesHidden = true
      return undefined
    }
  }

  /** Passes on what is new: the state of the live pod, retries and their causes, log lines. */
  async #tell(snapshot: Snapshot): Promise<void> {
    const { story } = this.#session
    const { pods } = snapshot
    await this.#tellEnds(snapshot)
    const pod = livePod(pods)
    const hindrance = this.#hindranceOf(snapshot, pod)
    const phase = pod && phaseOf(pod, snapshot.events)
    const now = hindrance?.detail ?? phase?.sentence
    // What ends the wait is said at the end.
    if (now && now !== this.#said && !hindrance?.fatal) {
      if (hindrance) {
        story.detail(hindrance.detail)
        story.detail(withSettingsNamed(hindrance.next, this.#session))
      } else if (phase) story.phase(phase)
    }
    this.#said = now ?? this.#said
    // What is watched for as long as it takes has not begun its grace.
    const same = hindrance?.cause === this.#hindered?.by.cause && hindrance?.patient === this.#hindered?.by.patient
    if (!same) this.#hindered = undefined
    if (hindrance) this.#hindered = { by: hindrance, since: this.#hindered?.since ?? performance.now() }
    if (pod && hasLog(pod)) (await this.#logOf(pod)).resume(terminated(pod) !== undefined)
  }

  #hindranceOf(snapshot: Snapshot, pod: Pod | undefined): Diagnosis | undefined {
    const found = diagnoseWaiting(snapshot)
    if (found || !pod || !isRunning(pod) || this.#log?.pod !== pod.metadata.name) return found
    const { name } = pod.metadata
    return this.#stall.diagnose(name, this.#session.cluster.command('logs', name, '--tail=20'), this.#log.trouble)
  }

  /** Tells of each pod that has failed or was deleted, once, and why. */
  async #tellEnds({ pods, job }: Snapshot): Promise<void> {
    const over = ['Failed', 'FailureTarget', 'Complete'].some((type) => trueCondition(job.status.conditions, type))
    const again = !over && hasRetries(job, pods)
    for (const pod of [...pods].sort(byAge)) {
      const { uid, name } = pod.metadata
      this.#pods.set(uid, name)
      if (pod.status.phase === 'Succeeded') this.#ended.add(uid)
      if (pod.status.phase !== 'Failed' || this.#ended.has(uid)) continue
      this.#ended.add(uid)
      await this.#drain(pod)
      this.#lastEnd = diagnosePod(pod)
      if (again && terminated(pod)?.exitCode !== PERMANENT) this.#sayRetry(name, this.#lastEnd)
    }
    const there = new Set(pods.map(({ metadata }) => metadata.uid))
    for (const [uid, name] of this.#pods) {
      if (there.has(uid) || this.#ended.has(uid)) continue
      this.#ended.add(uid)
      this.#lastEnd = deletedPod(name)
      if (again) this.#sayRetry(name, this.#lastEnd)
    }
  }

  #sayRetry(name: string, why: Diagnosis | undefined): void {
    if (why?.fatal) return
    const detail = why?.detail ?? 'no reason given'
    const fact = detail.includes(name) ? detail : `pod ${name} failed: ${detail}`
    this.#session.story.detail(`${fact}; the Job tries again`)
  }

  async #completed({ job, pods }: Snapshot): Promise<JobDone | undefined> {
    const pod = newestPod(pods.filter((one) => one.status.phase === 'Succeeded'))
    if (!pod) return undefined
    await this.#drain(pod)
    const report = parseReport(terminated(pod)?.message)
    if (report?.state !== 'done') return undefined
    return { ...report, earlierPods: Math.max(job.status.failed ?? 0, this.#pods.size - 1) }
  }

  #failed(snapshot: Snapshot): Failure {
    const { story } = this.#session
    this.#isSettled = true
    const pod = newestPod(snapshot.pods)
    // The log was passed on as it came, unless nothing but failures is told.
    if (story.quiet) for (const line of this.#tail) story.advice(line)
    // A termination message that got lost on the way leaves these as the only words there are.
    if (pod && !parseReport(terminated(pod)?.message)) for (const line of this.#keptBack) story.advice(line)
    return failureOf(diagnoseFailure(snapshot, this.#lastEnd))
  }

  async #logOf(pod: Pod): Promise<PodLog> {
    const { name } = pod.metadata
    if (this.#log?.pod !== name) {
      await this.#log?.end()
      this.#keptBack = []
      this.#tail = []
      this.#stall.reset()
      this.#log = new PodLog(this.#session.cluster, name, (line) => this.#pass(line))
    }
    return this.#log
  }

  /** The rest of what a pod that has ended wrote. */
  async #drain(pod: Pod): Promise<void> {
    if (!hasLog(pod)) return
    const log = await this.#logOf(pod)
    await log.drain(LOG_END_MS)
  }

  #pass(line: string): void {
    const progress = parseProgress(line)
    // The mover's last two lines are its cause and next step, which are ours to say, at the end.
    if (/^(failed|next): /.test(line)) this.#keptBack.push(line)
    else if (progress) {
      this.#stall.note(progress)
      // Where nothing had to move the line before has said so.
      if (!isAllThere(progress)) this.#session.story.progress(progress)
    } else if (line !== '' && line !== this.#lastLine) {
      this.#session.story.detail(line)
      this.#tail = [...this.#tail, line].slice(-TAIL)
    }
    this.#lastLine = line
  }

  #isHopeless(): boolean {
    if (!this.#hindered) return false
    const { by, since } = this.#hindered
    const grace = Math.min(this.#session.settings.grace, by.grace ?? Number.POSITIVE_INFINITY)
    return by.fatal || (!by.patient && performance.now() - since >= grace * 1000)
  }

  #overdue(silence?: Silence): Failure {
    const { settings, again, story } = this.#session
    const { name } = this.#job
    const why = this.#hindered ? `: ${this.#hindered.by.detail}` : ''
    const fact = silence
      ? `Job ${name} was not seen to end within ${settings.timeout} s: for the last ${formatSeconds(silence.seconds)} ${silence.error.message}`
      : `Job ${name} is not done after ${settings.timeout} s${why}`
    this.#isSettled = true
    if (!this.#stays) return timeoutFailure(fact, 'give it longer with --timeout')
    story.advice(`Job ${name} goes on in the cluster${silence ? ', if it is not done' : ''}; ${this.#howToStop()}`)
    return timeoutFailure(
      fact,
      `where that is too short, give a longer --timeout (make: MODEL_TIMEOUT=); follow it again: ${again}`,
    )
  }

  /** With an interruption as its last words, before any other end. */
  #sayHowToComeBack(error: unknown): void {
    const { story, again } = this.#session
    const how = `Job ${this.#job.name} goes on in the cluster; ${this.#howToStop()}\nfollow it again: ${again}`
    if (error instanceof Interrupted) error.next = how
    else story.advice(how)
  }

  #howToStop(): string {
    return `to stop it: ${this.#session.cluster.command('delete', 'job', this.#job.name)}`
  }
}

/** Whether the Job may make another pod, as far as the pods tell before it decides. */
function hasRetries({ spec, status }: Job, pods: readonly Pod[]): boolean {
  const counted = pods.filter(
    (pod) => pod.status.phase === 'Failed' && !trueCondition(pod.status.conditions, 'DisruptionTarget'),
  )
  return Math.max(status.failed ?? 0, counted.length) <= (spec.backoffLimit ?? DEFAULT_BACKOFF_LIMIT)
}

function byAge(a: Pod, b: Pod): number {
  return newestPod([a, b]) === a ? 1 : -1
}

function failureOf({ cause, detail, next }: Diagnosis): Failure {
  return new Failure(cause, detail, next)
}
