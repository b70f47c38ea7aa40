import { AGAIN, type Diagnosis, lastClause, permanent, temporary } from './cause.mts'
import { CONTAINER } from './labels.mts'
import type { Event, Job, Node, Pod } from './objects.mts'
import { livePod, newestPod, terminated, trueCondition } from './pod.mts'
import { listPaths, type MoverFailure, parseReport } from './report.mts'
import { diagnoseLivePod, diagnoseRefusal, diagnoseSuspension } from './waiting.mts'

/** What the API shows of one Job at one moment. */
export interface Snapshot {
  job: Job
  pods: readonly Pod[]
  /** Of the live pod, or of the Job while there is none. */
  events: readonly Event[]
  /** Only where they tell something of the live pod; undefined too where they may not be looked at. */
  nodes?: readonly Node[]
}

/** Why a Job has failed: the cause of its last pod where there is one, for "backoff limit exceeded" explains nothing. `lastEnd`: of one that is gone. */
export function diagnoseFailure({ job, pods, events }: Snapshot, lastEnd?: Diagnosis): Diagnosis {
  const failed = trueCondition(job.status.conditions, 'Failed')
  if (failed?.reason === 'DeadlineExceeded')
    return permanent(
      'deadline',
      `Job ${job.metadata.name} ran into its deadline of ${job.spec.activeDeadlineSeconds} s`,
      AGAIN,
    )
  const pod = newestPod(pods.filter((one) => one.status.phase === 'Failed'))
  const ofPod = (pod && diagnosePod(pod)) ?? lastEnd
  if (ofPod) return { ...ofPod, fatal: true }
  const refused = diagnoseRefusal(job, events)
  if (refused) return refused
  return permanent(
    'no-pod-left',
    `Job ${job.metadata.name} failed (${failed?.reason ?? 'no reason given'}) and none of its pods is left to ask`,
    AGAIN,
  )
}

/** What keeps a live Job from running; undefined where nothing does. */
export function diagnoseWaiting({ job, pods, events, nodes }: Snapshot): Diagnosis | undefined {
  const pod = livePod(pods)
  if (pod) return diagnoseLivePod(job, pod, events, nodes)
  const suspended = diagnoseSuspension(job)
  if (suspended) return suspended
  // A retry cannot help everything: what is wrong with the image stays wrong.
  const last = newestPod(pods)
  const ofLast = last && diagnosePod(last)
  return ofLast?.fatal ? ofLast : diagnoseRefusal(job, events)
}

/** Why one pod failed; undefined where it did not. */
export function diagnosePod(pod: Pod): Diagnosis | undefined {
  const ended = terminated(pod)
  const said = ended && parseReport(ended.message)
  // That it was told to stop is all that the mover knows then; who told it stands elsewhere.
  if (said?.state === 'failed' && said.cause !== 'stopped') return ofMover(said)
  const { name } = pod.metadata
  if (pod.status.reason === 'Evicted') {
    const { message = 'no reason given' } = pod.status
    const resource = /low on resource: ([\w.-]*\w)|(ephemeral[- ](?:local )?storage)/i.exec(message)
    const short = resource?.[1] ?? (resource ? 'ephemeral-storage' : undefined)
    return temporary(
      'evicted',
      `pod ${name} was evicted from node ${pod.spec.nodeName}: ${message}`,
      `${short ? `free ${short} on the node or add a node, then ` : ''}${AGAIN}`,
    )
  }
  if (ended?.reason === 'OOMKilled') {
    const limit = pod.spec.containers.find((container) => container.name === CONTAINER)?.resources.limits?.memory
    return temporary(
      'out-of-memory',
      `pod ${name} was killed at its memory limit${limit ? ` of ${limit}` : ''}`,
      'raise it with --memory, or lower what is kept in memory with --buffer',
    )
  }
  const disruption = trueCondition(pod.status.conditions, 'DisruptionTarget')
  if (disruption)
    return temporary(
      'disrupted',
      `pod ${name} was removed from node ${pod.spec.nodeName}: ${disruption.message ?? disruption.reason}`,
      AGAIN,
    )
  if (pod.status.phase !== 'Failed') return undefined
  if (pod.metadata.deletionTimestamp) return deletedPod(name)
  if (said?.state === 'failed') return ofMover(said)
  if (ended?.reason === 'StartError' || ended?.reason === 'ContainerCannotRun')
    return permanent(
      'cannot-start',
      `pod ${name} could not start its program: ${lastClause(ended.message)}`,
      'name an image with Python 3.11 with --image',
    )
  if (ended)
    return temporary(
      'mover-ended',
      `pod ${name} ended with exit code ${ended.exitCode} and left no reason`,
      'read its last lines above, then run the same command again',
    )
  return temporary(
    'pod-failed',
    `pod ${name} failed: ${pod.status.message ?? pod.status.reason ?? 'no reason given'}`,
    AGAIN,
  )
}

/** Somebody deleted it; Kubernetes keeps no more of it than that it is gone. */
export function deletedPod(name: string): Diagnosis {
  return temporary('pod-deleted', `pod ${name} was deleted; what it had moved is kept`, AGAIN)
}

function ofMover({ cause, detail, next, paths, more }: MoverFailure): Diagnosis {
  const lists = Object.entries(paths).map(([what, names]) => `; ${what}: ${listPaths(names, more?.[what])}`)
  return temporary(cause, detail + lists.join(''), next)
}
