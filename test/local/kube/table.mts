import {
  configMaps,
  events,
  jobs,
  type Kind,
  namespaces,
  nodes,
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  secrets,
} from './kinds.mts'
import {
  type ConfigMap,
  hasCondition,
  type Job,
  type KubeObject,
  type Namespace,
  type Node,
  type PersistentVolume,
  type PersistentVolumeClaim,
  type Pod,
  type Secret,
} from './objects.mts'

/** The columns of `kubectl get` after NAME; the real API's, less those that only `-o wide` shows. */
const columns = new Map<Kind, [titles: string[], row: (object: KubeObject) => unknown[]]>([
  [namespaces, [['Status', 'Age'], (o) => [(o as Namespace).status.phase, age(o)]]],
  [
    nodes,
    [['Status', 'Roles', 'Age', 'Version'], (o) => [nodeStatus(o as Node), '<none>', age(o), nodeVersion(o as Node)]],
  ],
  [secrets, [['Type', 'Data', 'Age'], (o) => [o.type, Object.keys((o as Secret).data ?? {}).length, age(o)]]],
  [configMaps, [['Data', 'Age'], (o) => [keyCount(o as ConfigMap), age(o)]]],
  [
    persistentVolumes,
    [['Capacity', 'Access Modes', 'Reclaim Policy', 'Status', 'Claim', 'StorageClass', 'Reason', 'Age'], volumeRow],
  ],
  [persistentVolumeClaims, [['Status', 'Volume', 'Capacity', 'Access Modes', 'StorageClass', 'Age'], claimRow]],
  [pods, [['Ready', 'Status', 'Restarts', 'Age'], podRow]],
  [jobs, [['Status', 'Completions', 'Duration', 'Age'], jobRow]],
])

/** A list or an object as `kubectl get` wants it for people. */
export function table(kind: Kind, result: KubeObject, include: string): unknown {
  const items = Array.isArray(result.items) ? (result.items as KubeObject[]) : [result]
  const [titles, row] = columns.get(kind) ?? [['Age'], (object: KubeObject) => [age(object)]]
  const names = kind === events ? ['Last Seen', 'Type', 'Reason', 'Object', 'Message'] : ['Name', ...titles]
  return {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata: { resourceVersion: result.metadata.resourceVersion },
    columnDefinitions: names.map((name) => ({
      name,
      type: 'string',
      format: name === 'Name' ? 'name' : '',
      description: '',
      priority: 0,
    })),
    rows: items.map((item) => ({
      cells: kind === events ? eventRow(item) : [item.metadata.name, ...row(item)],
      object:
        include === 'Object'
          ? { ...item, kind: kind.kind, apiVersion: kind.group ? `${kind.group}/v1` : 'v1' }
          : { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: item.metadata },
    })),
  }
}

/** As kubectl words a duration: `45s`, `3m5s`, `12m`, `5h`, `3d`. */
function duration(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000))
  if (seconds < 120) return `${seconds}s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 10) return seconds % 60 === 0 ? `${minutes}m` : `${minutes}m${seconds % 60}s`
  if (minutes < 180) return `${minutes}m`
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)}h` : `${Math.floor(minutes / 1440)}d`
}

function age(object: KubeObject): string {
  return duration(Date.now() - Date.parse(object.metadata.creationTimestamp))
}

function keyCount(map: ConfigMap): number {
  return Object.keys(map.data ?? {}).length + Object.keys(map.binaryData ?? {}).length
}

function nodeStatus(node: Node): string {
  const ready = hasCondition(node.status.conditions, 'Ready') ? 'Ready' : 'NotReady'
  return node.spec.unschedulable ? `${ready},SchedulingDisabled` : ready
}

function nodeVersion(node: Node): unknown {
  return (node.status.nodeInfo as { kubeletVersion?: string } | undefined)?.kubeletVersion ?? ''
}

const modes: Record<string, string> = {
  ReadWriteOnce: 'RWO',
  ReadOnlyMany: 'ROX',
  ReadWriteMany: 'RWX',
  ReadWriteOncePod: 'RWOP',
}

function shortModes(accessModes: string[] | undefined): string {
  return (accessModes ?? []).map((mode) => modes[mode] ?? mode).join(',')
}

function volumeRow(object: KubeObject): unknown[] {
  const { spec, status, metadata } = object as PersistentVolume
  const claim = spec.claimRef ? `${spec.claimRef.namespace}/${spec.claimRef.name}` : ''
  const phase = metadata.deletionTimestamp ? 'Terminating' : status.phase
  const policy = spec.persistentVolumeReclaimPolicy
  return [
    spec.capacity.storage,
    shortModes(spec.accessModes),
    policy,
    phase,
    claim,
    spec.storageClassName ?? '',
    status.reason ?? '',
    age(object),
  ]
}

function claimRow(object: KubeObject): unknown[] {
  const { spec, status, metadata } = object as PersistentVolumeClaim
  const phase = metadata.deletionTimestamp ? 'Terminating' : status.phase
  const capacity = status.capacity?.storage ?? (spec.volumeName ? '0' : '')
  return [
    phase,
    spec.volumeName ?? '',
    capacity,
    shortModes(status.accessModes),
    spec.storageClassName ?? '',
    age(object),
  ]
}

function podRow(object: KubeObject): unknown[] {
  const { spec, status, metadata } = object as Pod
  const statuses = status.containerStatuses ?? []
  const state = statuses[0]?.state
  let shown: string = status.reason ?? state?.waiting?.reason ?? state?.terminated?.reason ?? status.phase
  if (metadata.deletionTimestamp && status.phase !== 'Succeeded' && status.phase !== 'Failed') shown = 'Terminating'
  const ready = statuses.filter((container) => container.ready).length
  return [`${ready}/${spec.containers.length}`, shown, 0, age(object)]
}

function jobRow(object: KubeObject): unknown[] {
  const { spec, status, metadata } = object as Job
  const finished = ['Complete', 'Failed'].find((type) => hasCondition(status.conditions, type))
  const pending = hasCondition(status.conditions, 'FailureTarget') ? 'FailureTarget' : 'Running'
  const shown = finished ?? (metadata.deletionTimestamp ? 'Terminating' : pending)
  const failedAt = status.conditions?.find((condition) => condition.type === 'Failed')?.lastTransitionTime
  const end = status.completionTime ?? failedAt
  const took = status.startTime ? duration((end ? Date.parse(end) : Date.now()) - Date.parse(status.startTime)) : ''
  return [shown, `${status.succeeded ?? 0}/${spec.completions}`, took, age(object)]
}

function eventRow(event: KubeObject): unknown[] {
  const about = event.involvedObject as { kind: string; name: string }
  const seen = (event.lastTimestamp ?? event.eventTime ?? event.metadata.creationTimestamp) as string
  return [
    duration(Date.now() - Date.parse(seen)),
    event.type,
    event.reason,
    `${about.kind.toLowerCase()}/${about.name}`,
    event.message,
  ]
}
