import { CONTAINER } from './labels.mts'
import type { Condition, ContainerStatus, Event, Pod, TerminatedState } from './objects.mts'

/** The condition of this type, where its status is True. */
export function trueCondition(conditions: readonly Condition[] | undefined, type: string): Condition | undefined {
  return conditions?.find((condition) => condition.type === type && condition.status === 'True')
}

/** The one that was made last; names decide within a second. */
export function newestPod(pods: readonly Pod[]): Pod | undefined {
  const at = (pod: Pod) => `${pod.metadata.creationTimestamp} ${pod.metadata.name}`
  return [...pods].sort((a, b) => (at(a) < at(b) ? -1 : 1)).at(-1)
}

/** The pod that the Job waits for: the newest one that has not ended. */
export function livePod(pods: readonly Pod[]): Pod | undefined {
  return newestPod(pods.filter(({ status }) => status.phase !== 'Failed' && status.phase !== 'Succeeded'))
}

/** What a pod is doing: a word or two for a line that is drawn again, and the sentence that names it. */
export interface PodPhase {
  short: string
  sentence: string
}

/** undefined when it has ended, which others have more to say about. */
export function phaseOf(pod: Pod, events: readonly Event[]): PodPhase | undefined {
  const { name } = pod.metadata
  const node = pod.spec.nodeName ? ` on ${pod.spec.nodeName}` : ''
  if (pod.status.phase === 'Succeeded' || pod.status.phase === 'Failed' || terminated(pod)) return undefined
  if (pod.metadata.deletionTimestamp) return { short: 'being stopped', sentence: `pod ${name} is being stopped${node}` }
  if (isRunning(pod)) return { short: 'running', sentence: `pod ${name} runs${node}` }
  if (!pod.spec.nodeName) return { short: 'waiting for a node', sentence: `pod ${name} waits for a node` }
  if (isPulling(pod, events)) {
    const image = pod.spec.containers.find((one) => one.name === CONTAINER)?.image
    return { short: 'pulling image', sentence: `pod ${name} is pulling image ${image}${node}` }
  }
  return { short: 'starting', sentence: `pod ${name} starts${node}` }
}

/** The kubelet tells it in events only: its state is ContainerCreating, as with the volumes before. */
function isPulling({ metadata }: Pod, events: readonly Event[]): boolean {
  const own = events.filter(({ involvedObject }) => involvedObject.uid === metadata.uid)
  const last = own.findLast(({ reason = '' }) => ['Pulling', 'Pulled', 'Failed', 'BackOff'].includes(reason))
  return last?.reason === 'Pulling'
}

/** Whether the container has written, or may be writing, a log. */
export function hasLog(pod: Pod): boolean {
  return isRunning(pod) || terminated(pod) !== undefined
}

/** Whether the mover's container runs. */
export function isRunning(pod: Pod): boolean {
  return moverOf(pod)?.state?.running !== undefined
}

/** How the mover's container ended; undefined where it has not. */
export function terminated(pod: Pod): TerminatedState | undefined {
  return moverOf(pod)?.state?.terminated
}

/** The status of the mover's container, once the kubelet has one. */
export function moverOf(pod: Pod): ContainerStatus | undefined {
  return pod.status.containerStatuses?.find((status) => status.name === CONTAINER)
}

/** A message of the scheduler: why no node takes the pod; undefined when it has one or was not looked at. */
export function unscheduledBecause(pod: Pod): string | undefined {
  const condition = pod.status.conditions?.find((one) => one.type === 'PodScheduled' && one.status === 'False')
  return condition?.message?.replace(/ ?preemption: .*$/s, '')
}

/**
 * Whether the node it runs on may be lost: the pod is to end, or is not ready though it runs.
 *
 * The mover has no readiness probe: only the node controller calls a running pod unready, when its node is silent.
 */
export function mayBeLost(pod: Pod): boolean {
  if (!pod.spec.nodeName) return false
  const ready = pod.status.conditions?.find(({ type }) => type === 'Ready')
  return pod.metadata.deletionTimestamp !== undefined || (isRunning(pod) && ready?.status === 'False')
}
