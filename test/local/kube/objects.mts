/** The parts of the Kubernetes objects that the stand-in itself reads or writes; everything else is carried along untouched. */

export interface OwnerReference {
  apiVersion: string
  kind: string
  name: string
  uid: string
  controller?: boolean
  blockOwnerDeletion?: boolean
}

export interface Metadata {
  name: string
  generateName?: string
  namespace?: string
  uid: string
  resourceVersion: string
  generation?: number
  creationTimestamp: string
  deletionTimestamp?: string
  deletionGracePeriodSeconds?: number
  labels?: Record<string, string>
  annotations?: Record<string, string>
  ownerReferences?: OwnerReference[]
  finalizers?: string[]
}

export interface KubeObject {
  apiVersion: string
  kind: string
  metadata: Metadata
  [field: string]: unknown
}

export interface Condition {
  type: string
  status: 'True' | 'False' | 'Unknown'
  reason?: string
  message?: string
  lastProbeTime?: string | null
  lastHeartbeatTime?: string
  lastTransitionTime: string
}

export interface Namespace extends KubeObject {
  status: { phase: 'Active' | 'Terminating' }
}

export interface ConfigMap extends KubeObject {
  data?: Record<string, string>
  binaryData?: Record<string, string>
  immutable?: boolean
}

export interface Secret extends KubeObject {
  data?: Record<string, string>
  type: string
}

export interface Taint {
  key: string
  value?: string
  effect: 'NoSchedule' | 'NoExecute' | 'PreferNoSchedule'
  timeAdded?: string
}

export interface Node extends KubeObject {
  spec: { taints?: Taint[]; unschedulable?: boolean }
  status: {
    allocatable: Record<string, string>
    capacity: Record<string, string>
    conditions: Condition[]
    addresses: { type: string; address: string }[]
    [field: string]: unknown
  }
}

export interface ClaimRef {
  apiVersion?: string
  kind?: string
  namespace: string
  name: string
  uid?: string
  resourceVersion?: string
}

export interface PersistentVolume extends KubeObject {
  spec: {
    capacity: { storage: string }
    accessModes: string[]
    storageClassName?: string
    persistentVolumeReclaimPolicy?: 'Retain' | 'Delete' | 'Recycle'
    claimRef?: ClaimRef
    hostPath?: { path: string; type?: string }
    nfs?: { server: string; path: string; readOnly?: boolean }
    [field: string]: unknown
  }
  status: { phase: string; reason?: string; message?: string; lastPhaseTransitionTime?: string }
}

export interface PersistentVolumeClaim extends KubeObject {
  spec: {
    accessModes: string[]
    resources: { requests: { storage: string } }
    storageClassName?: string
    volumeName?: string
    [field: string]: unknown
  }
  status: { phase: 'Pending' | 'Bound' | 'Lost'; accessModes?: string[]; capacity?: Record<string, string> }
}

export interface KeyRef {
  name: string
  key: string
  optional?: boolean
}

export interface EnvVar {
  name: string
  value?: string
  valueFrom?: {
    secretKeyRef?: KeyRef
    configMapKeyRef?: KeyRef
    fieldRef?: { fieldPath: string }
    resourceFieldRef?: { resource: string; divisor?: string; containerName?: string }
  }
}

export interface KeysToFiles {
  items?: { key: string; path: string; mode?: number }[]
  defaultMode?: number
  optional?: boolean
}

export interface Volume {
  name: string
  configMap?: KeysToFiles & { name: string }
  secret?: KeysToFiles & { secretName: string }
  projected?: { sources: { configMap?: KeysToFiles & { name: string } }[]; defaultMode?: number }
  emptyDir?: Record<string, unknown>
  hostPath?: { path: string; type?: string }
  persistentVolumeClaim?: { claimName: string; readOnly?: boolean }
}

export interface Container {
  name: string
  image: string
  command?: string[]
  args?: string[]
  workingDir?: string
  env?: EnvVar[]
  envFrom?: {
    prefix?: string
    secretRef?: { name: string; optional?: boolean }
    configMapRef?: { name: string; optional?: boolean }
  }[]
  volumeMounts?: { name: string; mountPath: string; subPath?: string; readOnly?: boolean }[]
  resources?: { requests?: Record<string, string>; limits?: Record<string, string> }
  terminationMessagePath?: string
  terminationMessagePolicy?: string
  imagePullPolicy?: string
}

export interface Toleration {
  key?: string
  operator?: 'Exists' | 'Equal'
  value?: string
  effect?: string
  tolerationSeconds?: number
}

export interface PodSpec {
  containers: Container[]
  initContainers?: Container[]
  volumes?: Volume[]
  nodeName?: string
  nodeSelector?: Record<string, string>
  tolerations?: Toleration[]
  restartPolicy?: string
  terminationGracePeriodSeconds?: number
  [field: string]: unknown
}

export interface ContainerState {
  waiting?: { reason: string; message?: string }
  running?: { startedAt: string }
  terminated?: {
    exitCode: number
    signal?: number
    reason: string
    message?: string
    startedAt: string
    finishedAt: string
    containerID: string
  }
}

export interface ContainerStatus {
  name: string
  image: string
  imageID: string
  containerID?: string
  ready: boolean
  started: boolean
  restartCount: number
  state: ContainerState
  lastState: ContainerState
  [field: string]: unknown
}

export type PodPhase = 'Pending' | 'Running' | 'Succeeded' | 'Failed'

export interface Pod extends KubeObject {
  spec: PodSpec
  status: {
    phase: PodPhase
    reason?: string
    message?: string
    conditions?: Condition[]
    containerStatuses?: ContainerStatus[]
    initContainerStatuses?: ContainerStatus[]
    startTime?: string
    hostIP?: string
    podIP?: string
    [field: string]: unknown
  }
}

export interface PodFailurePolicyRule {
  action: 'Ignore' | 'FailJob' | 'Count' | 'FailIndex'
  onExitCodes?: { containerName?: string; operator: 'In' | 'NotIn'; values: number[] }
  onPodConditions?: { type: string; status?: string }[]
}

export interface Job extends KubeObject {
  spec: {
    parallelism: number
    completions: number
    backoffLimit: number
    completionMode: 'NonIndexed' | 'Indexed'
    /** No pod is made until it is taken back. */
    suspend?: boolean
    podReplacementPolicy: 'TerminatingOrFailed' | 'Failed'
    activeDeadlineSeconds?: number
    ttlSecondsAfterFinished?: number
    podFailurePolicy?: { rules: PodFailurePolicyRule[] }
    template: { metadata: Partial<Metadata>; spec: PodSpec }
    [field: string]: unknown
  }
  status: {
    active?: number
    succeeded?: number
    failed?: number
    ready?: number
    terminating?: number
    startTime?: string
    completionTime?: string
    completedIndexes?: string
    failedIndexes?: string
    conditions?: Condition[]
    uncountedTerminatedPods?: Record<string, never>
  }
}

/** The time as the API writes it: UTC, whole seconds. */
export function timestamp(at: number = Date.now()): string {
  return `${new Date(at).toISOString().slice(0, 19)}Z`
}

/** Sets the condition of that type; its transition time moves only when its status changes, as in the real API. */
export function setCondition(conditions: Condition[], condition: Omit<Condition, 'lastTransitionTime'>): Condition[] {
  const before = conditions.find((other) => other.type === condition.type)
  const since = before?.status === condition.status ? before.lastTransitionTime : timestamp()
  const after = { ...condition, lastTransitionTime: since }
  return before ? conditions.map((other) => (other === before ? after : other)) : [...conditions, after]
}

export function hasCondition(conditions: Condition[] | undefined, type: string): boolean {
  return conditions?.some((condition) => condition.type === type && condition.status === 'True') ?? false
}
