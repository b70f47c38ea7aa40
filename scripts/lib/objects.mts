/** As much of the Kubernetes API's objects as the scripts look at. */

export interface Metadata {
  name: string
  namespace?: string
  uid: string
  resourceVersion: string
  creationTimestamp: string
  deletionTimestamp?: string
  labels?: Record<string, string>
  annotations?: Record<string, string>
  ownerReferences?: { uid: string }[]
  finalizers?: string[]
}

export interface Condition {
  type: string
  status: string
  reason?: string
  message?: string
}

export interface EnvVar {
  name: string
  value?: string
  valueFrom?: unknown
}

export interface Container {
  name: string
  image: string
  env?: EnvVar[]
  envFrom?: { secretRef?: { name: string; optional?: boolean } }[]
  volumeMounts?: { name: string }[]
  resources: { requests?: Record<string, string>; limits?: Record<string, string> }
}

export interface Volume {
  name: string
  configMap?: { name: string }
  persistentVolumeClaim?: { claimName: string }
}

export interface JobSpec {
  ttlSecondsAfterFinished?: number
  activeDeadlineSeconds?: number
  backoffLimit?: number
  /** No pod is made until it is taken back. */
  suspend?: boolean
  template: {
    metadata: { labels?: Record<string, string>; annotations?: Record<string, string> }
    spec: {
      containers: Container[]
      volumes?: Volume[]
      tolerations?: Toleration[]
      nodeSelector?: Record<string, string>
    }
  }
}

export interface Toleration {
  key?: string
  operator?: string
  value?: string
  effect?: string
}

export interface Taint {
  key: string
  value?: string
  effect: string
}

export interface Node {
  metadata: Metadata
  spec: { taints?: Taint[] }
  status: { allocatable?: Record<string, string>; conditions?: Condition[] }
}

export interface Job {
  kind: 'Job'
  metadata: Metadata
  spec: JobSpec
  status: { conditions?: Condition[]; failed?: number; succeeded?: number; completionTime?: string }
}

export interface ConfigMap {
  kind: 'ConfigMap'
  metadata: Metadata
}

export interface TerminatedState {
  exitCode: number
  reason?: string
  message?: string
}

export interface ContainerStatus {
  name: string
  state?: {
    waiting?: { reason?: string; message?: string }
    running?: object
    terminated?: TerminatedState
  }
}

export interface Pod {
  kind: 'Pod'
  metadata: Metadata
  spec: {
    nodeName?: string
    containers: Container[]
    volumes?: Volume[]
    tolerations?: Toleration[]
    nodeSelector?: Record<string, string>
  }
  status: {
    phase?: string
    reason?: string
    message?: string
    conditions?: Condition[]
    containerStatuses?: ContainerStatus[]
  }
}

export interface Event {
  reason?: string
  message?: string
  lastTimestamp?: string | null
  eventTime?: string | null
  metadata: Metadata
  involvedObject: { kind?: string; name?: string; uid?: string }
}

export interface PersistentVolume {
  metadata: Metadata
  spec: {
    capacity?: { storage?: string }
    accessModes?: string[]
    storageClassName?: string
    claimRef?: { namespace?: string; name?: string; uid?: string }
  }
  status?: { phase?: string; reason?: string; message?: string }
}

export interface PersistentVolumeClaim {
  metadata: Metadata
  spec: {
    accessModes?: string[]
    storageClassName?: string
    volumeName?: string
    resources?: { requests?: { storage?: string } }
  }
  status?: { phase?: string }
}
