import { isDeepStrictEqual } from 'node:util'
import { configMaps, jobs, type Kind, namespaces, persistentVolumeClaims, pods, secrets } from './kinds.mts'
import type { ConfigMap, Container, Job, KubeObject, PersistentVolumeClaim, PodSpec } from './objects.mts'
import { quantity } from './quantity.mts'
import { type FieldError, invalid, Unsupported } from './status.mts'

const label = '[a-z0-9]([-a-z0-9]*[a-z0-9])?'
const labelOnly = new RegExp(`^${label}$`)
const subdomain = new RegExp(`^${label}(\\.${label})*$`)
const labelValue = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/
const qualifiedName = /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/

const wrongSubdomain = `a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`
const wrongLabelName = `a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`
const wrongLabelValue = `a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`
const wrongQualifiedName = `name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`

function quoted(value: unknown): string {
  return JSON.stringify(value)
}
function wrong(field: string, value: unknown, why: string): FieldError {
  return { reason: 'FieldValueInvalid', field, message: `Invalid value: ${quoted(value)}: ${why}` }
}
function required(field: string, why = ''): FieldError {
  return { reason: 'FieldValueRequired', field, message: `Required value${why && `: ${why}`}` }
}
function forbiddenField(field: string, why: string): FieldError {
  return { reason: 'FieldValueForbidden', field, message: `Forbidden: ${why}` }
}
function immutable(field: string, value: unknown): FieldError {
  return wrong(field, value, 'field is immutable')
}

/** Client-side apply keeps the whole manifest in an annotation, so a big ConfigMap meets this limit first. */
const ANNOTATIONS_LIMIT = 262_144
const MAP_LIMIT = 1_048_576

function tooLong(field: string, limit: number): FieldError {
  return { reason: 'FieldValueTooLong', field, message: `Too long: may not be more than ${limit} bytes` }
}

/** What the real API refuses on creation, for the fields that we write. */
export function validateCreate(kind: Kind, object: KubeObject): void {
  const errors = [...nameErrors(kind, object.metadata.name), ...metadataErrors(object)]
  if (kind === jobs) errors.push(...jobErrors(object as Job))
  if (kind === pods) errors.push(...podErrors('spec', object.spec as PodSpec))
  if (kind === configMaps || kind === secrets) errors.push(...keyErrors(object as ConfigMap))
  if (kind === persistentVolumeClaims) errors.push(...claimErrors(object as PersistentVolumeClaim))
  if (errors.length > 0) throw invalid(kind, object.metadata.name, errors)
}

/** What the real API refuses as a change. */
export function validateUpdate(kind: Kind, after: KubeObject, before: KubeObject): void {
  const errors = metadataErrors(after)
  if (after.metadata.uid !== before.metadata.uid) errors.push(immutable('metadata.uid', after.metadata.uid))
  if (kind === jobs) errors.push(...jobChangeErrors(after as Job, before as Job))
  if (kind === pods && !isDeepStrictEqual(frozenSpec(after), frozenSpec(before))) {
    const allowed =
      'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)'
    errors.push(forbiddenField('spec', allowed))
  }
  if (kind === configMaps || kind === secrets)
    errors.push(...keyErrors(after as ConfigMap), ...sealedErrors(after, before))
  if (kind === persistentVolumeClaims) {
    errors.push(...claimChangeErrors(after as PersistentVolumeClaim, before as PersistentVolumeClaim))
  }
  if (errors.length > 0) throw invalid(kind, after.metadata.name, errors)
}

function nameErrors(kind: Kind, name: string | undefined): FieldError[] {
  if (!name) return [required('metadata.name', 'name or generateName is required')]
  if (kind === namespaces) {
    if (name.length > 63) return [wrong('metadata.name', name, 'must be no more than 63 characters')]
    return labelOnly.test(name) ? [] : [wrong('metadata.name', name, wrongLabelName)]
  }
  if (name.length > 253) return [wrong('metadata.name', name, 'must be no more than 253 characters')]
  return subdomain.test(name) ? [] : [wrong('metadata.name', name, wrongSubdomain)]
}

function labelErrors(field: string, labels: Record<string, string> | undefined): FieldError[] {
  return Object.entries(labels ?? {}).flatMap(([key, value]) => [
    ...(qualifiedName.test(key) ? [] : [wrong(field, key, wrongQualifiedName)]),
    ...(value.length > 63 ? [wrong(field, value, 'must be no more than 63 characters')] : []),
    ...(labelValue.test(value) ? [] : [wrong(field, value, wrongLabelValue)]),
  ])
}

function metadataErrors({ metadata }: KubeObject): FieldError[] {
  const errors = labelErrors('metadata.labels', metadata.labels)
  for (const key of Object.keys(metadata.annotations ?? {})) {
    if (!qualifiedName.test(key)) errors.push(wrong('metadata.annotations', key, wrongQualifiedName))
  }
  const size = Object.entries(metadata.annotations ?? {}).reduce(
    (sum, pair) => sum + Buffer.byteLength(pair.join('')),
    0,
  )
  if (size > ANNOTATIONS_LIMIT) errors.push(tooLong('metadata.annotations', ANNOTATIONS_LIMIT))
  return unique(errors)
}

/** A label that stands in the map under several keys (a Job's name) is one error. */
function unique(errors: FieldError[]): FieldError[] {
  const seen = new Set<string>()
  return errors.filter(({ field, message }) => !seen.has(field + message) && seen.add(field + message))
}

function jobErrors(job: Job): FieldError[] {
  const { spec } = job
  const errors = unique(labelErrors('spec.template.labels', spec.template?.metadata?.labels))
  for (const field of [
    'parallelism',
    'completions',
    'backoffLimit',
    'activeDeadlineSeconds',
    'ttlSecondsAfterFinished',
  ]) {
    const value = spec[field]
    if (typeof value === 'number' && value < 0) {
      errors.push(wrong(`spec.${field}`, value, 'must be greater than or equal to 0'))
    }
  }
  const policy = spec.template?.spec?.restartPolicy
  if (policy !== 'Never' && policy !== 'OnFailure') {
    errors.push(required('spec.template.spec.restartPolicy', 'valid values: "OnFailure", "Never"'))
  }
  if (spec.podFailurePolicy && policy !== 'Never') {
    errors.push(
      wrong('spec.template.spec.restartPolicy', policy, 'only "Never" is supported when podFailurePolicy is specified'),
    )
  }
  for (const [index, rule] of (spec.podFailurePolicy?.rules ?? []).entries()) {
    const name = rule.onExitCodes?.containerName
    const zero = rule.onExitCodes?.operator === 'In' ? rule.onExitCodes.values.indexOf(0) : -1
    if (zero >= 0) {
      const field = `spec.podFailurePolicy.rules[${index}].onExitCodes.values[${zero}]`
      errors.push(wrong(field, 0, 'must not be 0 for the In operator'))
    }
    const containers = [...(spec.template.spec.containers ?? []), ...(spec.template.spec.initContainers ?? [])]
    if (name !== undefined && !containers.some((container) => container.name === name)) {
      errors.push(
        wrong(
          `spec.podFailurePolicy.rules[${index}].onExitCodes.containerName`,
          name,
          'must be one of the container or initContainer names in the pod template',
        ),
      )
    }
  }
  if (spec.successPolicy || spec.backoffLimitPerIndex !== undefined || spec.managedBy) {
    throw new Unsupported("a Job's successPolicy, backoffLimitPerIndex or managedBy")
  }
  return policy === 'Always' ? errors : [...errors, ...podErrors('spec.template.spec', spec.template?.spec)]
}

const volumeSources = ['configMap', 'projected', 'secret', 'emptyDir', 'hostPath', 'persistentVolumeClaim']

function podErrors(field: string, spec: PodSpec | undefined): FieldError[] {
  if (!spec?.containers?.length) return [required(`${field}.containers`)]
  if (spec.restartPolicy !== undefined && spec.restartPolicy !== 'Never') {
    throw new Unsupported(`pods with restartPolicy ${spec.restartPolicy}`)
  }
  for (const feature of ['affinity', 'topologySpreadConstraints', 'ephemeralContainers', 'schedulingGates']) {
    if (feature in spec) throw new Unsupported(`a pod's ${feature}`)
  }
  for (const volume of spec.volumes ?? []) {
    if (!volumeSources.some((source) => source in volume)) {
      throw new Unsupported(`volumes of the kind ${Object.keys(volume).filter((key) => key !== 'name')}`)
    }
    if (volume.projected?.sources.some(({ configMap }) => !configMap || configMap.items)) {
      throw new Unsupported('projected volumes of anything but whole ConfigMaps')
    }
  }
  const volumes = new Set(spec.volumes?.map((volume) => volume.name))
  return [
    ...spec.containers.flatMap((container, index) =>
      containerErrors(`${field}.containers[${index}]`, container, volumes),
    ),
    ...(spec.initContainers ?? []).flatMap((container, index) =>
      containerErrors(`${field}.initContainers[${index}]`, container, volumes),
    ),
  ]
}

function containerErrors(field: string, container: Container, volumes: Set<string>): FieldError[] {
  const errors: FieldError[] = []
  if (!container.name) errors.push(required(`${field}.name`))
  else if (!labelOnly.test(container.name)) errors.push(wrong(`${field}.name`, container.name, wrongLabelName))
  if (!container.image) errors.push(required(`${field}.image`))
  for (const feature of ['livenessProbe', 'readinessProbe', 'startupProbe', 'lifecycle', 'volumeDevices'] as const) {
    if (feature in container) throw new Unsupported(`a container's ${feature}`)
  }
  if ((container.terminationMessagePolicy ?? 'File') !== 'File') {
    throw new Unsupported(`terminationMessagePolicy ${container.terminationMessagePolicy}`)
  }
  for (const [index, mount] of (container.volumeMounts ?? []).entries()) {
    if (!volumes.has(mount.name)) {
      const at = `${field}.volumeMounts[${index}].name`
      errors.push({ reason: 'FieldValueNotFound', field: at, message: `Not found: ${quoted(mount.name)}` })
    }
  }
  const { requests = {}, limits = {} } = container.resources ?? {}
  for (const [name, request] of Object.entries(requests)) {
    const limit = limits[name]
    if (limit !== undefined && quantity(request) > quantity(limit)) {
      errors.push(
        wrong(`${field}.resources.requests`, request, `must be less than or equal to ${name} limit of ${limit}`),
      )
    }
  }
  return errors
}

function keyErrors(map: ConfigMap): FieldError[] {
  const keys = [...Object.keys(map.data ?? {}), ...Object.keys(map.binaryData ?? {})]
  const size = [...Object.values(map.data ?? {}), ...Object.values(map.binaryData ?? {})].join('').length
  const wrongKeys = keys
    .filter((key) => !/^[-._a-zA-Z0-9]{1,253}$/.test(key) || key === '.' || key.startsWith('..'))
    .map((key) =>
      wrong(
        `data[${key}]`,
        key,
        `a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')`,
      ),
    )
  return size > MAP_LIMIT ? [...wrongKeys, tooLong('[]', MAP_LIMIT)] : wrongKeys
}

function sealedErrors(after: KubeObject, before: KubeObject): FieldError[] {
  if (before.immutable !== true) return []
  const why = 'field is immutable when `immutable` is set'
  if (after.immutable !== true) return [forbiddenField('immutable', why)]
  return ['data', 'binaryData']
    .filter((field) => !isDeepStrictEqual(after[field], before[field]))
    .map((field) => forbiddenField(field, why))
}

function claimErrors(claim: PersistentVolumeClaim): FieldError[] {
  return [
    ...(claim.spec?.accessModes?.length ? [] : [required('spec.accessModes', 'at least 1 access mode is required')]),
    ...(claim.spec?.resources?.requests?.storage ? [] : [required('spec.resources[storage]')]),
  ]
}

function claimChangeErrors(after: PersistentVolumeClaim, before: PersistentVolumeClaim): FieldError[] {
  const fixed = ({ spec: { resources: _, volumeName, ...rest } }: PersistentVolumeClaim) => ({ ...rest, volumeName })
  const errors: FieldError[] = []
  const binds = before.spec.volumeName === undefined
  const wanted = binds ? { ...fixed(after), volumeName: undefined } : fixed(after)
  if (!isDeepStrictEqual(wanted, fixed(before))) {
    errors.push(
      forbiddenField(
        'spec',
        'spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims',
      ),
    )
  }
  if (quantity(after.spec.resources?.requests?.storage) < quantity(before.spec.resources.requests.storage)) {
    errors.push(forbiddenField('spec.resources.requests.storage', 'field can not be less than status.capacity'))
  }
  return errors
}

/** Kubernetes prints the whole template as a Go value here; the end of the message is what people look for. */
function jobChangeErrors(after: Job, before: Job): FieldError[] {
  const errors: FieldError[] = []
  if (!isDeepStrictEqual(templateOf(after), templateOf(before))) {
    errors.push({
      reason: 'FieldValueInvalid',
      field: 'spec.template',
      message: 'Invalid value: core.PodTemplateSpec{…}: field is immutable',
    })
  }
  if (after.spec.suspend && !before.spec.suspend) throw new Unsupported('suspending a Job that was begun')
  if (after.spec.completions !== before.spec.completions && after.spec.completionMode !== 'Indexed') {
    errors.push(immutable('spec.completions', after.spec.completions))
  }
  for (const field of ['selector', 'completionMode', 'podFailurePolicy', 'backoffLimitPerIndex']) {
    if (!isDeepStrictEqual(after.spec[field], before.spec[field]))
      errors.push(immutable(`spec.${field}`, after.spec[field]))
  }
  return errors
}

function templateOf(job: Job): unknown {
  const { creationTimestamp: _, ...metadata } = job.spec.template.metadata ?? {}
  return { metadata, spec: job.spec.template.spec }
}

function frozenSpec(pod: KubeObject): unknown {
  const { tolerations: _, activeDeadlineSeconds: __, ...spec } = pod.spec as PodSpec
  return spec
}
