/** The kinds the stand-in serves. Anything else is answered with a loud 404. */
export interface Kind {
  group: '' | 'batch'
  version: 'v1'
  kind: string
  plural: string
  singular: string
  shortNames: readonly string[]
  namespaced: boolean
  categories?: readonly string[]
  /** Whether the real API counts metadata.generation for it. */
  counted?: boolean
  subresources?: readonly string[]
}

const core = { group: '', version: 'v1' } as const

export const namespaces: Kind = {
  ...core,
  kind: 'Namespace',
  plural: 'namespaces',
  singular: 'namespace',
  shortNames: ['ns'],
  namespaced: false,
}
export const nodes: Kind = {
  ...core,
  kind: 'Node',
  plural: 'nodes',
  singular: 'node',
  shortNames: ['no'],
  namespaced: false,
}
export const secrets: Kind = {
  ...core,
  kind: 'Secret',
  plural: 'secrets',
  singular: 'secret',
  shortNames: [],
  namespaced: true,
}
export const configMaps: Kind = {
  ...core,
  kind: 'ConfigMap',
  plural: 'configmaps',
  singular: 'configmap',
  shortNames: ['cm'],
  namespaced: true,
}
export const persistentVolumes: Kind = {
  ...core,
  kind: 'PersistentVolume',
  plural: 'persistentvolumes',
  singular: 'persistentvolume',
  shortNames: ['pv'],
  namespaced: false,
}
export const persistentVolumeClaims: Kind = {
  ...core,
  kind: 'PersistentVolumeClaim',
  plural: 'persistentvolumeclaims',
  singular: 'persistentvolumeclaim',
  shortNames: ['pvc'],
  namespaced: true,
}
export const events: Kind = {
  ...core,
  kind: 'Event',
  plural: 'events',
  singular: 'event',
  shortNames: ['ev'],
  namespaced: true,
}
export const pods: Kind = {
  ...core,
  kind: 'Pod',
  plural: 'pods',
  singular: 'pod',
  shortNames: ['po'],
  namespaced: true,
  categories: ['all'],
  counted: true,
  subresources: ['log'],
}
export const jobs: Kind = {
  group: 'batch',
  version: 'v1',
  kind: 'Job',
  plural: 'jobs',
  singular: 'job',
  shortNames: [],
  namespaced: true,
  categories: ['all'],
  counted: true,
}

export const kinds: readonly Kind[] = [
  namespaces,
  nodes,
  secrets,
  configMaps,
  persistentVolumes,
  persistentVolumeClaims,
  events,
  pods,
  jobs,
]

export const verbs = ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch'] as const

export function apiVersion(kind: Kind): string {
  return kind.group ? `${kind.group}/${kind.version}` : kind.version
}

/** `jobs.batch`, `pods`: how messages name a kind. */
export function qualifiedPlural(kind: Kind): string {
  return kind.group ? `${kind.plural}.${kind.group}` : kind.plural
}
