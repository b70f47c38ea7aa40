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

/** The status a kubelet reports for a pod in these container states; `ending` is given once nothing runs any more. */
export function podStatus(
  pod: Pod,
  node: Node | undefined,
  states: ReadonlyMap<string, ContainerState>,
  ending: Ending | undefined,
): Pod['status'] {
  const state = ({ name }: Container) => states.get(name) ?? { waiting: { reason: 'PodInitializing' } }
  const main = pod.spec.containers.map(state)
  const all = [...(pod.spec.initContainers ?? []).map(state), ...main]
  const succeeded = main.every(({ terminated }) => terminated?.exitCode === 0) && !ending?.reason
  const phase = ending
    ? succeeded
      ? 'Succeeded'
      : 'Failed'
    : all.some(({ running }) => running)
      ? 'Running'
      : 'Pending'
  const hostIP = node?.status.addresses.find(({ type }) => type === 'InternalIP')?.address ?? ''
  const { startTime = timestamp(), podIP = addressOf(pod) } = pod.status
  const started = all.some(({ running, terminated }) => running || terminated)
  const statuses = (containers: Container[] = []) =>
    containers.map((container) => containerStatus(container, state(container)))
  return {
    ...pod.status,
    conditions: conditions(pod, phase, main, ending, started),
    containerStatuses: statuses(pod.spec.containers),
    ...(pod.spec.initContainers && { initContainerStatuses: statuses(pod.spec.initContainers) }),
    hostIP,
    hostIPs: [{ ip: hostIP }],
    ...(started && { podIP, podIPs: [{ ip: podIP }] }),
    phase,
    ...(ending?.reason && { reason: ending.reason }),
    ...(ending?.message && { message: ending.message }),
    startTime,
  }
}

function conditions(
  pod: Pod,
  phase: string,
  main: ContainerState[],
  ending: Ending | undefined,
  started: boolean,
): Condition[] {
  const unready = pod.spec.containers.filter((_, index) => !main[index]?.running).map(({ name }) => name)
  const initialised =
    (pod.spec.initContainers ?? []).length === 0 || main.some(({ running, terminated }) => running || terminated)
  const over =
    phase === 'Succeeded' ? { reason: 'PodCompleted' } : phase === 'Failed' ? { reason: 'PodFailed' } : undefined
  const waiting = { reason: 'ContainersNotReady', message: `containers with unready status: [${unready.join(' ')}]` }
  const ready = unready.length === 0 ? { status: 'True' as const } : { status: 'False' as const, ...(over ?? waiting) }
  const wanted: Omit<Condition, 'lastTransitionTime'>[] = [
    ...(ending?.disruption
      ? [
          {
            type: 'DisruptionTarget',
            status: 'True' as const,
            reason: ending.disruption,
            message: ending.message ?? '',
          },
        ]
      : []),
    { type: 'PodReadyToStartContainers', status: started && !ending ? 'True' : 'False' },
    {
      type: 'Initialized',
      status: initialised ? 'True' : 'False',
      ...(phase === 'Succeeded' && { reason: 'PodCompleted' }),
    },
    { type: 'Ready', ...ready },
    { type: 'ContainersReady', ...ready },
  ]
  return wanted.reduce(
    (list, condition) => setCondition(list, { lastProbeTime: null, ...condition }),
    pod.status.conditions ?? [],
  )
}

function containerStatus({ name, image, volumeMounts }: Container, state: ContainerState): ContainerStatus {
  const begun = Boolean(state.running || state.terminated)
  return {
    ...(state.terminated && { containerID: state.terminated.containerID }),
    image: begun ? fullImage(image) : image,
    imageID: begun ? `sha256:${createHash('sha256').update(image).digest('hex')}` : '',
    lastState: {},
    name,
    ready: state.running !== undefined,
    restartCount: 0,
    started: state.running !== undefined,
    state,
    ...(volumeMounts && { volumeMounts }),
  }
}

/** An address of its own in the pods' network, from the uid. */
function addressOf({ metadata }: Pod): string {
  const [a = 0, b = 0] = createHash('sha256').update(metadata.uid).digest()
  return `10.244.${a}.${b}`
}
