import { CONTAINER } from './manifest.mts'
import type { Condition, Event, Job, Pod, TerminatedState } from './objects.mts'
import { listPaths, type MoverFailure, parseReport } from './report.mts'

/** What the API shows of one Job at one moment. Events: of the Job and of its newest pod. */
export interface Snapshot {
  job: Job
  pods: readonly Pod[]
  events: readonly Event[]
}

export interface Diagnosis {
  /** A stable name, for machines. */
  cause: string
  /** One sentence that names the object. */
  detail: string
  next: string
  /** It does not heal by waiting. */
  fatal: boolean
}

const AGAIN = 'run the same command again: it goes on where this run stopped'

export function isTrue(conditions: readonly Condition[] | undefined, type: string): Condition | undefined {
  return conditions?.find((condition) => condition.type === type && condition.status === 'True')
}

export function newestPod(pods: readonly Pod[]): Pod | undefined {
  const at = (pod: Pod) => `${pod.metadata.creationTimestamp} ${pod.metadata.name}`
  return [...pods].sort((a, b) => (at(a) < at(b) ? -1 : 1)).at(-1)
}

/** Why a Job has failed: the cause of its last pod where there is one, for "backoff limit exceeded" explains nothing. */
export function diagnoseFailure({ job, pods, events }: Snapshot): Diagnosis {
  const failed = isTrue(job.status.conditions, 'Failed')
  if (failed?.reason === 'DeadlineExceeded')
    return permanent(
      'deadline',
      `Job ${job.metadata.name} ran into its deadline of ${job.spec.activeDeadlineSeconds} s`,
      AGAIN,
    )
  const pod = newestPod(pods.filter((one) => one.status.phase === 'Failed'))
  const ofPod = pod && diagnosePod(pod)
  if (ofPod) return { ...ofPod, fatal: true }
  const refused = events.findLast((event) => event.reason === 'FailedCreate')
  if (refused) return refusal(refused)
  return permanent(
    'no-pod-left',
    `Job ${job.metadata.name} failed (${failed?.reason ?? 'no reason given'}) and none of its pods is left to ask`,
    AGAIN,
  )
}

/** What keeps a live Job from running; undefined where nothing does. */
export function diagnoseWaiting({ job, pods, events }: Snapshot): Diagnosis | undefined {
  const pod = newestPod(pods.filter((one) => one.status.phase !== 'Failed' && one.status.phase !== 'Succeeded'))
  if (!pod) {
    const refused = events.findLast(
      (event) => event.reason === 'FailedCreate' && event.involvedObject.uid === job.metadata.uid,
    )
    return refused && pods.length === 0 ? refusal(refused) : undefined
  }
  const own = events.filter((event) => event.involvedObject.uid === pod.metadata.uid)
  return ofWaitingContainer(pod, own) ?? ofScheduling(pod) ?? ofMount(pod, own)
}

/** Why one pod failed; undefined where it did not. */
export function diagnosePod(pod: Pod): Diagnosis | undefined {
  const ended = terminated(pod)
  const said = ended && parseReport(ended.message)
  if (said?.state === 'failed') return ofMover(said)
  const { name } = pod.metadata
  if (pod.status.reason === 'Evicted')
    return temporary(
      'evicted',
      `pod ${name} was evicted from node ${pod.spec.nodeName}: ${pod.status.message ?? 'no reason given'}`,
      AGAIN,
    )
  if (ended?.reason === 'OOMKilled') {
    const limit = pod.spec.containers.find((container) => container.name === CONTAINER)?.resources.limits?.memory
    return temporary(
      'out-of-memory',
      `pod ${name} was killed at its memory limit${limit ? ` of ${limit}` : ''}`,
      'raise it with --memory, or lower what is kept in memory with --buffer',
    )
  }
  const disruption = isTrue(pod.status.conditions, 'DisruptionTarget')
  if (disruption)
    return temporary(
      'disrupted',
      `pod ${name} was removed from node ${pod.spec.nodeName}: ${disruption.message ?? disruption.reason}`,
      AGAIN,
    )
  if (pod.status.phase !== 'Failed') return undefined
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

/** What a pod is doing, in a few words; undefined when it has ended, which others have more to say about. */
export function describePod(pod: Pod): string | undefined {
  const { name } = pod.metadata
  const node = pod.spec.nodeName ? ` on ${pod.spec.nodeName}` : ''
  if (pod.status.phase === 'Succeeded' || pod.status.phase === 'Failed' || terminated(pod)) return undefined
  if (pod.metadata.deletionTimestamp) return `pod ${name} is being stopped${node}`
  const { state } = container(pod) ?? {}
  if (state?.running) return `pod ${name} runs${node}`
  if (!pod.spec.nodeName) return `pod ${name} waits for a node`
  return `pod ${name} starts${node}`
}

/** Whether the container has written, or may be writing, a log. */
export function hasLog(pod: Pod): boolean {
  const { state } = container(pod) ?? {}
  return state?.running !== undefined || state?.terminated !== undefined
}

export function terminated(pod: Pod): TerminatedState | undefined {
  return container(pod)?.state?.terminated
}

function container(pod: Pod) {
  return pod.status.containerStatuses?.find((status) => status.name === CONTAINER)
}

function ofMover({ cause, detail, next, paths, more }: MoverFailure): Diagnosis {
  const lists = Object.entries(paths).map(([what, names]) => `; ${what}: ${listPaths(names, more?.[what])}`)
  return temporary(cause, detail + lists.join(''), next)
}

function ofWaitingContainer(pod: Pod, events: readonly Event[]): Diagnosis | undefined {
  const waiting = container(pod)?.state?.waiting
  const image = pod.spec.containers.find((one) => one.name === CONTAINER)?.image ?? ''
  switch (waiting?.reason) {
    case 'ErrImagePull':
    case 'ImagePullBackOff':
    case 'InvalidImageName':
    case 'ErrImageNeverPull': {
      const event = events.findLast((one) => one.message?.startsWith('Failed to pull image'))
      const said = [waiting.message, event?.message].find((text) => text?.includes(': ')) ?? waiting.reason
      const detail = `image ${image} cannot be pulled: ${pullReason(said)}`
      const next = 'name one that this cluster can pull with --image, and add --restart'
      return /too many requests|toomanyrequests|timeout|deadline|connection reset|50[0-9]|EOF/i.test(said)
        ? temporary('image-pull', detail, next)
        : permanent('image-pull', detail, next)
    }
    case 'CreateContainerConfigError': {
      const missing = /^(secret|configmap) "([^"]+)" not found$/.exec(waiting.message ?? '')
      const [, kind, name] = missing ?? []
      if (name && kind === 'secret')
        return permanent(
          'no-secret',
          `Secret ${name} does not exist in namespace ${pod.metadata.namespace}`,
          `create it (README, Prerequisites), then run the same command again`,
        )
      if (name)
        return permanent(
          'no-configmap',
          `ConfigMap ${name} does not exist in namespace ${pod.metadata.namespace}`,
          'run the same command again with --restart',
        )
      return permanent(
        'container-config',
        `pod ${pod.metadata.name} cannot start: ${waiting.message}`,
        'correct what it names, then run the same command again',
      )
    }
    case 'CreateContainerError':
    case 'RunContainerError':
      return temporary(
        'container-start',
        `pod ${pod.metadata.name} cannot start: ${lastClause(waiting.message)}`,
        'look at the node, or run the same command again with --restart',
      )
    default:
      return undefined
  }
}

function ofScheduling(pod: Pod): Diagnosis | undefined {
  const condition = pod.status.conditions?.find((one) => one.type === 'PodScheduled' && one.status === 'False')
  if (!condition?.message) return undefined
  const reason = condition.message.replace(/ ?preemption: .*$/s, '')
  const claim = /persistentvolumeclaim "([^"]+)" not found/.exec(reason)?.[1]
  if (claim)
    return permanent(
      'no-claim',
      `claim ${claim} does not exist in namespace ${pod.metadata.namespace}`,
      'run make fix-pvc, then the same command again',
    )
  if (/unbound immediate PersistentVolumeClaims|persistentvolumeclaim/.test(reason))
    return temporary(
      'claim-pending',
      `pod ${pod.metadata.name} waits for its claim: ${reason}`,
      'run make fix-pvc, then the same command again',
    )
  return temporary(
    'unschedulable',
    `no node takes pod ${pod.metadata.name}: ${reason}`,
    'free or add a node, or wait: the Job starts when one fits',
  )
}

function ofMount(pod: Pod, events: readonly Event[]): Diagnosis | undefined {
  if (hasLog(pod)) return undefined
  const event = events.findLast((one) => one.reason === 'FailedMount' || one.reason === 'FailedAttachVolume')
  if (!event?.message) return undefined
  const configMap = /configmap "([^"]+)" not found/.exec(event.message)?.[1]
  if (configMap)
    return permanent(
      'no-configmap',
      `ConfigMap ${configMap} does not exist in namespace ${pod.metadata.namespace}`,
      'run the same command again with --restart',
    )
  return temporary(
    'mount',
    `pod ${pod.metadata.name} cannot mount its volume: ${event.message}`,
    'check the NFS server, the PV and its mount options',
  )
}

function refusal(event: Event): Diagnosis {
  const reason = event.message?.replace(/^Error creating: /, '') ?? 'no reason given'
  return temporary(
    'pod-refused',
    `the cluster refuses the Job's pods: ${reason}`,
    'raise the quota or correct the policy that it names; the Job then goes on by itself',
  )
}

/** Containerd repeats the image in each layer of its message. */
function pullReason(message: string): string {
  return message
    .replace(/^Back-off pulling image "[^"]*": /, '')
    .replace(/^Failed to pull image "[^"]*": /, '')
    .replace(/^ErrImagePull: /, '')
    .replace(/^(rpc error: code = \w+ desc = )?failed to pull and unpack image "[^"]*": /, '')
    .replace(/^failed to resolve reference "[^"]*": /, '')
}

function lastClause(message: string | undefined): string {
  return (
    message
      ?.replace(/: unknown$/, '')
      .split(' process: ')
      .at(-1) ?? 'no reason given'
  )
}

function permanent(cause: string, detail: string, next: string): Diagnosis {
  return { cause, detail, next, fatal: true }
}

function temporary(cause: string, detail: string, next: string): Diagnosis {
  return { cause, detail, next, fatal: false }
}
