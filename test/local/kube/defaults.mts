import {
  jobs,
  type Kind,
  namespaces,
  nodes,
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  secrets,
} from './kinds.mts'
import type {
  Container,
  Job,
  KubeObject,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  PodSpec,
  Secret,
} from './objects.mts'

/** Fills in what the real API fills in when an object is written; the ones that our scripts or `kubectl` can see. */
export function applyDefaults(kind: Kind, object: KubeObject): void {
  if (kind === jobs) defaultJob(object as Job)
  else if (kind === pods) defaultPod(object as Pod)
  else if (kind === persistentVolumes) defaultVolume(object as PersistentVolume)
  else if (kind === persistentVolumeClaims) defaultClaim(object as PersistentVolumeClaim)
  else if (kind === secrets) defaultSecret(object as Secret)
  else if (kind === namespaces) {
    object.spec = { finalizers: ['kubernetes'] }
    object.status ??= { phase: 'Active' }
    object.metadata.labels = { 'kubernetes.io/metadata.name': object.metadata.name, ...object.metadata.labels }
  } else if (kind === nodes) object.spec ??= {}
}

/** What is added once, on creation, and may be taken away later. */
export function prepare(kind: Kind, object: KubeObject): void {
  if (kind === persistentVolumes) object.metadata.finalizers ??= ['kubernetes.io/pv-protection']
  if (kind === persistentVolumeClaims) object.metadata.finalizers ??= ['kubernetes.io/pvc-protection']
  if (kind === jobs && (object as Job).spec.template) labelJob(object as Job)
}

/** The Job's own labels and selector need its uid, so this runs after the uid is known. */
function labelJob(job: Job): void {
  const own = {
    'batch.kubernetes.io/controller-uid': job.metadata.uid,
    'batch.kubernetes.io/job-name': job.metadata.name,
    'controller-uid': job.metadata.uid,
    'job-name': job.metadata.name,
  }
  const template = job.spec.template
  const stamped = { creationTimestamp: null, ...template.metadata, labels: { ...template.metadata?.labels, ...own } }
  template.metadata = stamped as unknown as Job['spec']['template']['metadata']
  job.spec.selector = { matchLabels: { 'batch.kubernetes.io/controller-uid': job.metadata.uid } }
  // The real API copies the template's labels to a Job that has none of its own.
  if (!job.metadata.labels || Object.keys(job.metadata.labels).length === 0) {
    job.metadata.labels = { ...template.metadata.labels }
  }
}

function defaultJob(job: Job): void {
  const { spec } = job
  spec.completionMode ??= 'NonIndexed'
  spec.completions ??= spec.parallelism ?? 1
  spec.parallelism ??= 1
  spec.backoffLimit ??= 6
  spec.podReplacementPolicy ??= spec.podFailurePolicy ? 'Failed' : 'TerminatingOrFailed'
  spec.manualSelector ??= false
  spec.suspend ??= false
  for (const rule of spec.podFailurePolicy?.rules ?? []) {
    for (const pattern of rule.onPodConditions ?? []) pattern.status ??= 'True'
  }
  job.status ??= {}
  defaultPodSpec(spec.template.spec)
}

function defaultPod(pod: Pod): void {
  pod.spec.restartPolicy ??= 'Always'
  defaultPodSpec(pod.spec)
  for (const container of [...(pod.spec.initContainers ?? []), ...(pod.spec.containers ?? [])]) {
    const { limits, requests } = container.resources ?? {}
    if (limits) container.resources = { limits, requests: { ...limits, ...requests } }
  }
  pod.spec.enableServiceLinks ??= true
  pod.spec.preemptionPolicy ??= 'PreemptLowerPriority'
  pod.spec.priority ??= 0
  pod.spec.serviceAccountName ??= 'default'
  pod.spec.serviceAccount ??= pod.spec.serviceAccountName
  for (const key of ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable']) {
    pod.spec.tolerations ??= []
    if (!pod.spec.tolerations.some((toleration) => toleration.key === key)) {
      pod.spec.tolerations.push({ effect: 'NoExecute', key, operator: 'Exists', tolerationSeconds: 300 })
    }
  }
  pod.status ??= { phase: 'Pending', qosClass: qosClass(pod.spec) }
}

function defaultPodSpec(spec: PodSpec): void {
  spec.dnsPolicy ??= 'ClusterFirst'
  spec.schedulerName ??= 'default-scheduler'
  spec.securityContext ??= {}
  spec.terminationGracePeriodSeconds ??= 30
  if (typeof spec.serviceAccountName === 'string') spec.serviceAccount ??= spec.serviceAccountName
  for (const container of [...(spec.initContainers ?? []), ...(spec.containers ?? [])]) defaultContainer(container)
  for (const volume of spec.volumes ?? []) {
    if (volume.configMap) volume.configMap.defaultMode ??= 0o644
    if (volume.secret) volume.secret.defaultMode ??= 0o644
  }
}

function defaultContainer(container: Container): void {
  container.resources ??= {}
  container.terminationMessagePath ??= '/dev/termination-log'
  container.terminationMessagePolicy ??= 'File'
  const tag = /:([^/:]+)$/.exec(container.image ?? '')?.[1]
  container.imagePullPolicy ??= tag === undefined || tag === 'latest' ? 'Always' : 'IfNotPresent'
  for (const variable of container.env ?? []) {
    const field = variable.valueFrom?.fieldRef as { apiVersion?: string } | undefined
    if (field) field.apiVersion ??= 'v1'
  }
}

function qosClass(spec: PodSpec): string {
  const resources = spec.containers.map((container) => container.resources ?? {})
  if (resources.every(({ limits, requests }) => !limits && !requests)) return 'BestEffort'
  const guaranteed = resources.every(({ limits, requests }) =>
    ['cpu', 'memory'].every((name) => limits?.[name] !== undefined && limits[name] === requests?.[name]),
  )
  return guaranteed ? 'Guaranteed' : 'Burstable'
}

function defaultVolume(volume: PersistentVolume): void {
  volume.spec.persistentVolumeReclaimPolicy ??= 'Retain'
  volume.spec.volumeMode ??= 'Filesystem'
  if (volume.spec.hostPath) volume.spec.hostPath.type ??= ''
  volume.status ??= { phase: 'Pending' }
}

function defaultClaim(claim: PersistentVolumeClaim): void {
  claim.spec.volumeMode ??= 'Filesystem'
  claim.status ??= { phase: 'Pending' }
}

function defaultSecret(secret: Secret & { stringData?: Record<string, string> }): void {
  secret.type ??= 'Opaque'
  if (!secret.stringData) return
  const encoded = Object.entries(secret.stringData).map(([key, value]) => [key, Buffer.from(value).toString('base64')])
  secret.data = { ...secret.data, ...Object.fromEntries(encoded) }
  delete secret.stringData
}
