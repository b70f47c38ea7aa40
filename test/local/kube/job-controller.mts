import { ensureDeleted } from './deletion.mts'
import { expandIndexes, formatIndexes } from './indexes.mts'
import { INDEX, podOf, TRACKING } from './job-pods.mts'
import { jobs, pods } from './kinds.mts'
import { hasCondition, type Job, type Pod, setCondition, timestamp } from './objects.mts'
import { judge } from './pod-failure-policy.mts'
import { WorkQueue } from './queue.mts'
import type { Recorder } from './recorder.mts'
import type { Store } from './store.mts'

const LONGEST_BACKOFF = 600_000

interface Verdict {
  reason: string
  message: string
}

const backoffLimitExceeded = { reason: 'BackoffLimitExceeded', message: 'Job has reached the specified backoff limit' }
const deadlineExceeded = { reason: 'DeadlineExceeded', message: 'Job was active longer than specified deadline' }
const completionsReached = { reason: 'CompletionsReached', message: 'Reached expected number of succeeded pods' }

/** Makes pods for Jobs, counts how they end, and ends the Jobs; batch/v1 as of 1.33. */
export class JobController {
  readonly #store: Store
  readonly #recorder: Recorder
  readonly #backoff: number
  readonly #queue = new WorkQueue<string>((key) => this.#sync(key))
  readonly #stop: () => void
  /** Failures in a row and when the last one ended, by Job uid: what the next retry waits for. */
  readonly #failures = new Map<string, { count: number; last: number }>()
  /** Set: pods are refused with this message, as by a quota or an admission webhook. */
  #refusal: string | undefined

  constructor(store: Store, recorder: Recorder, backoffSeconds: number) {
    this.#store = store
    this.#recorder = recorder
    this.#backoff = backoffSeconds * 1000
    this.#stop = store.subscribe(({ kind, object }) => {
      const { namespace, name, ownerReferences } = object.metadata
      if (kind === jobs) this.#queue.add(`${namespace}/${name}`)
      if (kind === pods) for (const owner of ownerReferences ?? []) this.#queue.add(`${namespace}/${owner.name}`)
    })
  }

  refusePods(message: string | undefined): void {
    this.#refusal = message
    for (const job of this.#store.list(jobs)) this.#queue.add(`${job.metadata.namespace}/${job.metadata.name}`)
  }

  close(): void {
    this.#stop()
    this.#queue.close()
  }

  #sync(key: string): void {
    const [namespace, name = ''] = key.split('/')
    const job = this.#store.get<Job>(jobs, namespace, name)
    const all = this.#store.list<Pod>(pods, namespace)
    for (const pod of all) if (this.#isOrphan(pod)) this.#untrack(pod)
    if (!job) return
    const owned = all.filter((pod) => pod.metadata.ownerReferences?.some((owner) => owner.uid === job.metadata.uid))
    const status = job.status
    if (hasCondition(status.conditions, 'Complete') || hasCondition(status.conditions, 'Failed')) {
      for (const pod of owned) this.#untrack(pod)
      this.#expire(job, key)
      return
    }
    const { suspend } = job.spec
    if (!suspend) status.startTime ??= timestamp()
    const { verdict, counted } = this.#count(job, owned)
    const running = owned.filter((pod) => !isTerminal(pod))
    const active = running.filter((pod) => !pod.metadata.deletionTimestamp)
    const ended = this.#end(job, verdict, active, running.length)
    const wanted =
      ended || suspend || job.metadata.deletionTimestamp
        ? []
        : this.#missing(job, active, running.length - active.length)
    const wait = this.#remainingBackoff(job)
    const created = wait > 0 ? [] : wanted.map((index) => this.#createPod(job, index)).filter((made) => made)
    this.#report(job, ended ? 0 : active.length + created.length, running)
    for (const pod of counted) this.#untrack(pod)
    this.#wake(job, key, wanted.length > 0 && wait > 0 ? wait : undefined)
  }

  /** A pod whose Job is gone must not be held by the finalizer of the count. */
  #isOrphan({ metadata }: Pod): boolean {
    if (!metadata.finalizers?.includes(TRACKING)) return false
    const owner = metadata.ownerReferences?.find((candidate) => candidate.kind === 'Job')
    if (!owner) return true
    return this.#store.get(jobs, metadata.namespace, owner.name)?.metadata.uid !== owner.uid
  }

  #untrack(pod: Pod): void {
    if (!pod.metadata.finalizers?.includes(TRACKING)) return
    this.#store.modify<Pod>(pods, pod, ({ metadata }) => {
      metadata.finalizers = (metadata.finalizers ?? []).filter((finalizer) => finalizer !== TRACKING)
      if (metadata.finalizers.length === 0) delete metadata.finalizers
    })
  }

  /** Counts the pods that ended since the last time, each once: the tracking finalizer marks those still to be counted. */
  #count(job: Job, owned: Pod[]): { verdict: Verdict | undefined; counted: Pod[] } {
    let verdict: Verdict | undefined
    const counted: Pod[] = []
    const done = new Set(expandIndexes(job.status.completedIndexes))
    for (const pod of owned.filter(({ metadata }) => metadata.finalizers?.includes(TRACKING))) {
      if (pod.status.phase === 'Succeeded') {
        const index = Number(pod.metadata.annotations?.[INDEX] ?? -1)
        if (!done.has(index)) job.status.succeeded = (job.status.succeeded ?? 0) + 1
        if (index >= 0) done.add(index)
        this.#failures.delete(job.metadata.uid)
      } else if (hasFailed(job, pod)) {
        const judgement = judge(job, pod)
        if (judgement.counts) job.status.failed = (job.status.failed ?? 0) + 1
        if (judgement.failJob) verdict ??= { reason: 'PodFailurePolicy', message: judgement.failJob }
        const before = this.#failures.get(job.metadata.uid)
        this.#failures.set(job.metadata.uid, { count: (before?.count ?? 0) + 1, last: endOf(pod) })
      } else continue
      counted.push(pod)
    }
    if (job.spec.completionMode === 'Indexed' && done.size > 0) job.status.completedIndexes = formatIndexes([...done])
    return { verdict, counted }
  }

  /** Decides whether the Job is at its end; first the `…Target`/`…Met` condition, and the final one when no pod is left. */
  #end(job: Job, verdict: Verdict | undefined, active: Pod[], running: number): boolean {
    const { spec, status } = job
    const conditions = status.conditions ?? []
    const target = conditions.find((condition) => condition.type === 'FailureTarget')
    const met = conditions.find((condition) => condition.type === 'SuccessCriteriaMet')
    const succeeded = met ?? (!target && (status.succeeded ?? 0) >= spec.completions ? completionsReached : undefined)
    const failure = succeeded ? undefined : ((target as Verdict | undefined) ?? verdict ?? this.#exhausted(job))
    const outcome = (succeeded ?? failure) as Verdict | undefined
    if (!outcome) return false
    const { reason, message } = outcome
    const condition = (type: string) => ({ type, status: 'True' as const, reason, message, lastProbeTime: timestamp() })
    if (!met && !target) {
      status.conditions = setCondition(conditions, condition(succeeded ? 'SuccessCriteriaMet' : 'FailureTarget'))
    }
    for (const pod of active) {
      ensureDeleted(this.#store, pods, pod)
      this.#recorder.record(job, {
        type: 'Normal',
        reason: 'SuccessfulDelete',
        message: `Deleted pod: ${pod.metadata.name}`,
      })
    }
    if (running > 0) return true
    status.conditions = setCondition(status.conditions ?? [], condition(succeeded ? 'Complete' : 'Failed'))
    if (succeeded) status.completionTime = timestamp()
    this.#recorder.record(
      job,
      succeeded
        ? { type: 'Normal', reason: 'Completed', message: 'Job completed' }
        : { type: 'Warning', reason, message },
    )
    return true
  }

  #exhausted(job: Job): Verdict | undefined {
    if ((job.status.failed ?? 0) > job.spec.backoffLimit) return backoffLimitExceeded
    return (this.#remainingDeadline(job) ?? 1) <= 0 ? deadlineExceeded : undefined
  }

  #remainingDeadline({ spec, status }: Job): number | undefined {
    if (spec.activeDeadlineSeconds === undefined) return undefined
    return Date.parse(status.startTime ?? timestamp()) + spec.activeDeadlineSeconds * 1000 - Date.now()
  }

  #remainingBackoff(job: Job): number {
    const failures = this.#failures.get(job.metadata.uid)
    if (!failures) return 0
    const delay = Math.min(this.#backoff * 2 ** (failures.count - 1), LONGEST_BACKOFF)
    return failures.last + delay - Date.now()
  }

  /** One entry for each pod to make: its completion index, or undefined in a Job without indexes. */
  #missing({ spec, status }: Job, active: Pod[], terminating: number): (number | undefined)[] {
    const busy = active.length + (spec.podReplacementPolicy === 'Failed' ? terminating : 0)
    const room = Math.min(spec.parallelism, spec.completions - (status.succeeded ?? 0)) - busy
    if (room <= 0) return []
    if (spec.completionMode !== 'Indexed') return Array.from({ length: room }, () => undefined)
    const taken = new Set([
      ...expandIndexes(status.completedIndexes),
      ...active.map((pod) => Number(pod.metadata.annotations?.[INDEX])),
    ])
    const all = Array.from({ length: spec.completions }, (_, index) => index)
    return all.filter((index) => !taken.has(index)).slice(0, room)
  }

  #createPod(job: Job, index: number | undefined): Pod | undefined {
    const base = `${job.metadata.name}-${index === undefined ? '' : `${index}-`}`
    if (this.#refusal !== undefined) {
      this.#recorder.record(job, {
        type: 'Warning',
        reason: 'FailedCreate',
        // A webhook speaks for itself, all else is put by the server.
        message: `Error creating: ${/^admission webhook /.test(this.#refusal) ? '' : `pods "${base}" is forbidden: `}${this.#refusal}`,
      })
      return undefined
    }
    const created = this.#store.create(pods, podOf(job, base, index))
    this.#recorder.record(job, {
      type: 'Normal',
      reason: 'SuccessfulCreate',
      message: `Created pod: ${created.metadata.name}`,
    })
    return created
  }

  #report(job: Job, active: number, running: Pod[]): void {
    const { status } = job
    if (active > 0) status.active = active
    else delete status.active
    status.ready = running.filter((pod) => hasCondition(pod.status.conditions, 'Ready')).length
    status.terminating = running.length - running.filter((pod) => !pod.metadata.deletionTimestamp).length
    status.uncountedTerminatedPods = {}
    this.#store.modify<Job>(jobs, job, (current) => {
      current.status = status
    })
  }

  #wake(job: Job, key: string, backoff: number | undefined): void {
    const times = [backoff, this.#remainingDeadline(job)].filter((time) => time !== undefined && time > 0) as number[]
    if (times.length > 0) this.#queue.addAfter(key, Math.min(...times) + 1)
  }

  #expire(job: Job, key: string): void {
    const seconds = job.spec.ttlSecondsAfterFinished
    if (seconds === undefined || job.metadata.deletionTimestamp) return
    const finished = job.status.conditions?.find(({ type }) => type === 'Complete' || type === 'Failed')
    const remaining = Date.parse(finished?.lastTransitionTime ?? timestamp()) + seconds * 1000 - Date.now()
    if (remaining > 0) this.#queue.addAfter(key, remaining + 1)
    else ensureDeleted(this.#store, jobs, job, { propagationPolicy: 'Foreground' })
  }
}

function isTerminal(pod: Pod): boolean {
  return pod.status.phase === 'Succeeded' || pod.status.phase === 'Failed'
}

/** Under TerminatingOrFailed a pod under deletion counts as failed at once; else it must have ended. */
function hasFailed(job: Job, pod: Pod): boolean {
  if (pod.status.phase === 'Failed') return true
  if (!pod.metadata.deletionTimestamp) return false
  return job.spec.podReplacementPolicy === 'TerminatingOrFailed' || !pod.spec.nodeName
}

function endOf(pod: Pod): number {
  const ends = (pod.status.containerStatuses ?? []).flatMap(({ state }) =>
    state.terminated ? [Date.parse(state.terminated.finishedAt)] : [],
  )
  return ends.length > 0 ? Math.max(...ends) : Date.now()
}
