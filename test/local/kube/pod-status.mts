import { createHash } from 'node:crypto'
import { fullImage } from './images.mts'
import {
  type Condition,
  type Container,
  type ContainerState,
  type ContainerStatus,
  type Node,
  type Pod,
  setCondition,
  timestamp,
} from './objects.mts'

/** How a pod came to its end, when it was not by its own exit. */
export interface Ending {
  /** The runtime's reason for the container's end, e.g. OOMKilled. */
  containerReason?: string
  /** The pod's own, e.g. Evicted. */
  reason?: string
  message?: string
  /** Set: the pod also gets the condition DisruptionTarget, with this reason. */
  disruption?: string
}

export interface Progress {
  states: ReadonlyMap<string, ContainerState>
  /** Whether the pod has its volumes and an address, so that its containers can start. */
  sandbox: boolean
  /** Given once nothing runs any more. */
  ending: Ending | undefined
}

/** The status a kubelet reports for a pod that has come this far. */
export function podStatus(pod: Pod, node: Node | undefined, progress: Progress): Pod['status'] {
  const { states, sandbox, ending } = progress
  const state = ({ name }: Container) => states.get(name) ?? { waiting: { reason: 'PodInitializing' } }
  const main = pod.spec.containers.map(state)
  const succeeded = main.every(({ terminated }) => terminated?.exitCode === 0) && !ending?.reason
  const phase = ending
    ? succeeded
      ? 'Succeeded'
      : 'Failed'
    : // While the init containers run, a pod is Pending.
      main.some(({ running }) => running)
      ? 'Running'
      : 'Pending'
  const hostIP = node?.status.addresses.find(({ type }) => type === 'InternalIP')?.address ?? ''
  const { startTime = timestamp(), podIP = addressOf(pod) } = pod.status
  const statuses = (containers: Container[] = []) =>
    containers.map((container) => containerStatus(pod, container, state(container)))
  return {
    ...pod.status,
    conditions: conditions(pod, phase, main, progress),
    containerStatuses: statuses(pod.spec.containers),
    ...(pod.spec.initContainers && { initContainerStatuses: statuses(pod.spec.initContainers) }),
    hostIP,
    hostIPs: [{ ip: hostIP }],
    ...(sandbox && { podIP, podIPs: [{ ip: podIP }] }),
    phase,
    ...(ending?.reason && { reason: ending.reason }),
    ...(ending?.message && { message: ending.message }),
    startTime,
  }
}

function conditions(pod: Pod, phase: string, main: ContainerState[], { sandbox, ending }: Progress): Condition[] {
  const unready = pod.spec.containers.filter((_, index) => !main[index]?.running).map(({ name }) => name)
  const initialised =
    (pod.spec.initContainers ?? []).length === 0 || main.some(({ running, terminated }) => running || terminated)
  const over =
    phase === 'Succeeded' ? { reason: 'PodCompleted' } : phase === 'Failed' ? { reason: 'PodFailed' } : undefined
  const waiting = { reason: 'ContainersNotReady', message: `containers with unready status: [${unready.join(' ')}]` }
  const ready = unready.length === 0 ? { status: 'True' as const } : { status: 'False' as const, ...(over ?? waiting) }
  const disruption = ending?.disruption ? [{ reason: ending.disruption, message: ending.message ?? '' }] : []
  const completed = phase === 'Succeeded' ? { reason: 'PodCompleted' } : {}
  const wanted: Omit<Condition, 'lastTransitionTime'>[] = [
    ...disruption.map((why) => ({ type: 'DisruptionTarget', status: 'True' as const, ...why })),
    { type: 'PodReadyToStartContainers', status: sandbox && !ending ? 'True' : 'False' },
    { type: 'Initialized', status: initialised ? 'True' : 'False', ...completed },
    { type: 'Ready', ...ready },
    { type: 'ContainersReady', ...ready },
  ]
  const known = pod.status.conditions ?? []
  const all = wanted.reduce((list, condition) => setCondition(list, { lastProbeTime: null, ...condition }), known)
  return all.sort((one, other) => order.indexOf(one.type) - order.indexOf(other.type))
}

/** The order in which the kubelet lists them. */
const order = [
  'DisruptionTarget',
  'PodReadyToStartContainers',
  'Initialized',
  'Ready',
  'ContainersReady',
  'PodScheduled',
]

/** An id as containerd makes them; the same each time it is asked for. */
export function containerId(pod: Pod, name: string): string {
  return `containerd://${createHash('sha256').update(`${pod.metadata.uid} ${name}`).digest('hex')}`
}

function containerStatus(
  pod: Pod,
  { name, image, resources, volumeMounts }: Container,
  state: ContainerState,
): ContainerStatus {
  const begun = Boolean(state.running || state.terminated)
  return {
    ...(begun && { containerID: containerId(pod, name), resources: resources ?? {} }),
    image: begun ? fullImage(image) : image,
    imageID: begun ? `sha256:${createHash('sha256').update(image).digest('hex')}` : '',
    lastState: {},
    name,
    ready: state.running !== undefined,
    restartCount: 0,
    started: state.running !== undefined,
    state,
    ...(volumeMounts && { volumeMounts: volumeMounts.map(reported) }),
  }
}

/** An address of its own in the pods' network, from the uid. */
function addressOf({ metadata }: Pod): string {
  const [a = 0, b = 0] = createHash('sha256').update(metadata.uid).digest()
  return `10.244.${a}.${b}`
}

function reported(mount: NonNullable<Container['volumeMounts']>[number]): Record<string, unknown> {
  return mount.readOnly ? { ...mount, recursiveReadOnly: 'Disabled' } : mount
}
