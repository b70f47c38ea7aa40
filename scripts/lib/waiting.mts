import { type Diagnosis, lastClause, permanent, temporary } from './cause.mts'
import { CONTAINER } from './labels.mts'
import type { Event, Job, Node, Pod } from './objects.mts'
import { placementProblem } from './placement.mts'
import { hasLog, mayBeLost, moverOf, trueCondition, unscheduledBecause } from './pod.mts'

/** Whatever else a registry, or the way to it, says of an image may be different at the next attempt. */
const NEVER_PULLED =
  /not found|denied|unauthorized|authorization failed|forbidden|no match for platform|manifest unknown|invalid reference|InvalidImageName|ErrImageNeverPull/i
/** How long an autoscaler takes to say that it adds a node. */
const AUTOSCALER_SECONDS = 20
/** How long whoever starts a Job takes to put a ConfigMap back that was removed in that moment. */
const CONFIGMAP_SECONDS = 5
const MOUNTING = ['FailedMount', 'FailedAttachVolume']
const MOUNTED = ['Pulling', 'Pulled', 'Created', 'Started']

/** What keeps a pod that has not ended from its work; undefined where nothing does. `nodes` undefined: they could not be asked. */
export function diagnoseLivePod(
  job: Job,
  pod: Pod,
  events: readonly Event[],
  nodes: readonly Node[] | undefined,
): Diagnosis | undefined {
  const own = events.filter((event) => event.involvedObject.uid === pod.metadata.uid)
  return ofNode(job, pod, nodes) ?? ofWaitingContainer(pod, own) ?? ofScheduling(pod, own, nodes) ?? ofMount(pod, own)
}

/** A queue (Kueue) or somebody holds the Job back: the cluster makes no pod of it. */
export function diagnoseSuspension({ metadata, spec }: Job): Diagnosis | undefined {
  if (!spec.suspend) return undefined
  return {
    ...temporary(
      'suspended',
      `Job ${metadata.name} is suspended: a queue or somebody holds it back`,
      'it starts when spec.suspend is taken back; see kubectl describe of the Job for who does that',
    ),
    patient: true,
  }
}

/** Why the Job cannot make a pod: a quota or an admission policy. Undefined when the last attempt went well. */
export function diagnoseRefusal(job: Job, events: readonly Event[]): Diagnosis | undefined {
  const last = events.findLast(
    ({ reason, involvedObject }) =>
      involvedObject.uid === job.metadata.uid && (reason === 'FailedCreate' || reason === 'SuccessfulCreate'),
  )
  if (last?.reason !== 'FailedCreate') return undefined
  const why = last.message?.replace(/^Error creating: /, '') ?? 'no reason given'
  return temporary(
    'pod-refused',
    `the cluster refuses the Job's pods: ${why}`,
    'raise the quota or correct the policy that it names; the Job then goes on by itself',
  )
}

/** A node that is silent: nobody knows whether its pods still run, so Kubernetes replaces them only after minutes, if at all. */
function ofNode(job: Job, pod: Pod, nodes: readonly Node[] | undefined): Diagnosis | undefined {
  if (!mayBeLost(pod)) return undefined
  const { nodeName } = pod.spec
  const { name, deletionTimestamp } = pod.metadata
  const node = nodes?.find(({ metadata }) => metadata.name === nodeName)
  const silent = nodes ? !trueCondition(node?.status.conditions, 'Ready') : isOverdue(deletionTimestamp)
  if (!silent) return undefined
  const back = `start node ${nodeName} again; if it is off for good, delete its Node object`
  if (!deletionTimestamp)
    return {
      ...temporary(
        'node-lost',
        `node ${nodeName} does not answer; pod ${name} on it may or may not run on`,
        'wait: Kubernetes gives the pod up some minutes after its node fell silent (5, unless told otherwise)',
      ),
      patient: true,
    }
  if (job.status.succeeded)
    return temporary(
      'node-lost',
      `Job ${job.metadata.name} has done its work, but is not Complete while pod ${name} is Terminating on node ${nodeName}, which does not answer`,
      `${back}: the Job is Complete then`,
    )
  return temporary(
    'node-lost',
    `pod ${name} cannot end, for its node ${nodeName} does not answer; Job ${job.metadata.name} makes no other pod before it has ended`,
    `${back}: the Job goes on then`,
  )
}

/** A deletion's time is when the pod has to have ended at the latest; clocks may differ a little. */
function isOverdue(deletion: string | undefined): boolean {
  return deletion !== undefined && Date.parse(deletion) + 10_000 < Date.now()
}

function ofWaitingContainer(pod: Pod, events: readonly Event[]): Diagnosis | undefined {
  const waiting = moverOf(pod)?.state?.waiting
  const image = pod.spec.containers.find((one) => one.name === CONTAINER)?.image ?? ''
  switch (waiting?.reason) {
    case 'ErrImagePull':
    case 'ImagePullBackOff':
    case 'InvalidImageName':
    case 'ErrImageNeverPull': {
      const event = events.findLast((one) => one.message?.startsWith('Failed to pull image'))
      const said = [waiting.message, event?.message].find((text) => text?.includes(': ')) ?? waiting.reason
      const why = pullReason(said)
      const detail = `image ${image} cannot be pulled: ${why}`
      return NEVER_PULLED.test(why)
        ? permanent('image-pull', detail, 'name one that this cluster can pull with --image, and add --restart')
        : temporary('image-pull', detail, 'wait: the node tries again; or name another with --image, and add --restart')
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
      const detail = `pod ${pod.metadata.name} cannot start: ${waiting.message}`
      return /not found|couldn't find key|invalid/i.test(waiting.message ?? '')
        ? permanent('container-config', detail, 'correct what it names, then run the same command again')
        : temporary('container-config', detail, 'wait: the node tries again; or look at the node')
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

function ofScheduling(pod: Pod, events: readonly Event[], nodes: readonly Node[] | undefined): Diagnosis | undefined {
  const reason = unscheduledBecause(pod)
  if (!reason) return undefined
  const { name, namespace } = pod.metadata
  const bind = 'run make fix-pvc, then the same command again'
  const [, claim, what] = /persistentvolumeclaim "([^"]+)" (not found|bound to non-existent [^:,]*)/.exec(reason) ?? []
  if (what === 'not found') return permanent('no-claim', `PVC ${claim} does not exist in namespace ${namespace}`, bind)
  if (what) return permanent('claim-lost', `PVC ${claim} is Lost: it is ${what.replace(/\.$/, '')}`, bind)
  if (/persistentvolumeclaim/i.test(reason))
    return temporary('claim-pending', `pod ${name} waits for its PVC: ${reason}`, bind)
  const scaling = events.findLast(
    ({ reason = '' }) => reason.endsWith('TriggerScaleUp') || reason === 'TriggeredScaleUp',
  )
  // A node takes minutes to come, longer than any grace for what may never heal.
  if (scaling?.reason === 'TriggeredScaleUp')
    return {
      ...temporary(
        'unschedulable',
        `pod ${name} waits for a node that is being added: ${scaling.message}`,
        'wait: the Job starts when the node is there',
      ),
      patient: true,
    }
  const never = nodes && placementProblem(nodes, pod.spec)
  return never
    ? {
        ...temporary(
          'unschedulable',
          `no node can ever hold pod ${name}: ${never}`,
          'add a larger node, or lower what the pod asks for (memory: --memory) and add --restart',
        ),
        grace: AUTOSCALER_SECONDS,
      }
    : temporary(
        'unschedulable',
        `no node takes pod ${name}: ${reason}`,
        'free or add a node, or wait: the Job starts when one fits',
      )
}

function ofMount(pod: Pod, events: readonly Event[]): Diagnosis | undefined {
  if (hasLog(pod)) return undefined
  // The image is pulled once the volumes are mounted: what failed before that has healed.
  const last = events.findLast(({ reason = '' }) => MOUNTING.includes(reason) || MOUNTED.includes(reason))
  if (!last?.message || !MOUNTING.includes(last.reason ?? '')) return undefined
  const configMap = /configmap "([^"]+)" not found/.exec(last.message)?.[1]
  if (configMap)
    return {
      ...temporary(
        'no-configmap',
        `ConfigMap ${configMap} does not exist in namespace ${pod.metadata.namespace}`,
        'run the same command again with --restart',
      ),
      grace: CONFIGMAP_SECONDS,
    }
  return temporary(
    'mount',
    `pod ${pod.metadata.name} cannot mount its volume: ${last.message}`,
    'check the NFS server, the PV and its mount options',
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
