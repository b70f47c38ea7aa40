import { canonicalQuantity } from './quantity.mts'
import { badRequest } from './status.mts'

/**
 * What strict decoding knows: the fields of the kinds served here, to the depth our manifests use. A type is a Go type name
 * as the real API writes it in its messages, a struct, a list or a map; `any` is taken as it comes.
 */
type Type = 'string' | 'int32' | 'int64' | 'bool' | 'quantity' | 'any' | Struct | { list: Type } | { map: Type }
interface Struct {
  go: string
  fields: Record<string, Type>
}

const struct = (go: string, fields: Record<string, Type>): Struct => ({ go, fields })
const list = (type: Type): Type => ({ list: type })
const map = (type: Type): Type => ({ map: type })
const any = (...names: string[]): Record<string, Type> => Object.fromEntries(names.map((name) => [name, 'any']))

const metadata = struct('ObjectMeta', {
  name: 'string',
  generateName: 'string',
  namespace: 'string',
  uid: 'string',
  resourceVersion: 'string',
  generation: 'int64',
  deletionGracePeriodSeconds: 'int64',
  labels: map('string'),
  annotations: map('string'),
  finalizers: list('string'),
  ...any('creationTimestamp', 'deletionTimestamp', 'ownerReferences', 'managedFields', 'selfLink'),
})

const keyRef = struct('KeySelector', { name: 'string', key: 'string', optional: 'bool' })
const reference = struct('LocalObjectReference', { name: 'string', optional: 'bool' })
const quantities = map('quantity')
const chosenKeys: Record<string, Type> = {
  items: list(struct('KeyToPath', { key: 'string', path: 'string', mode: 'int32' })),
  optional: 'bool',
}
const keysToFiles: Record<string, Type> = { ...chosenKeys, defaultMode: 'int32' }

const container = struct('Container', {
  name: 'string',
  image: 'string',
  command: list('string'),
  args: list('string'),
  workingDir: 'string',
  imagePullPolicy: 'string',
  terminationMessagePath: 'string',
  terminationMessagePolicy: 'string',
  restartPolicy: 'string',
  stdin: 'bool',
  stdinOnce: 'bool',
  tty: 'bool',
  env: list(
    struct('EnvVar', {
      name: 'string',
      value: 'string',
      valueFrom: struct('EnvVarSource', {
        secretKeyRef: keyRef,
        configMapKeyRef: keyRef,
        fieldRef: struct('ObjectFieldSelector', { apiVersion: 'string', fieldPath: 'string' }),
        resourceFieldRef: struct('ResourceFieldSelector', {
          containerName: 'string',
          resource: 'string',
          divisor: 'quantity',
        }),
      }),
    }),
  ),
  envFrom: list(struct('EnvFromSource', { prefix: 'string', secretRef: reference, configMapRef: reference })),
  volumeMounts: list(
    struct('VolumeMount', {
      name: 'string',
      mountPath: 'string',
      subPath: 'string',
      readOnly: 'bool',
      recursiveReadOnly: 'string',
      mountPropagation: 'string',
      subPathExpr: 'string',
    }),
  ),
  resources: struct('ResourceRequirements', { requests: quantities, limits: quantities, claims: 'any' }),
  securityContext: struct('SecurityContext', {
    allowPrivilegeEscalation: 'bool',
    privileged: 'bool',
    readOnlyRootFilesystem: 'bool',
    runAsNonRoot: 'bool',
    runAsUser: 'int64',
    runAsGroup: 'int64',
    ...any('capabilities', 'seccompProfile', 'seLinuxOptions', 'procMount', 'appArmorProfile', 'windowsOptions'),
  }),
  ...any('livenessProbe', 'readinessProbe', 'startupProbe', 'lifecycle', 'ports', 'resizePolicy', 'volumeDevices'),
})

const podSpec = struct('PodSpec', {
  containers: list(container),
  initContainers: list(container),
  restartPolicy: 'string',
  terminationGracePeriodSeconds: 'int64',
  activeDeadlineSeconds: 'int64',
  automountServiceAccountToken: 'bool',
  enableServiceLinks: 'bool',
  hostNetwork: 'bool',
  hostIPC: 'bool',
  hostPID: 'bool',
  nodeName: 'string',
  nodeSelector: map('string'),
  serviceAccountName: 'string',
  serviceAccount: 'string',
  priorityClassName: 'string',
  preemptionPolicy: 'string',
  priority: 'int32',
  schedulerName: 'string',
  hostname: 'string',
  subdomain: 'string',
  dnsPolicy: 'string',
  runtimeClassName: 'string',
  imagePullSecrets: list(reference),
  tolerations: list(
    struct('Toleration', {
      key: 'string',
      operator: 'string',
      value: 'string',
      effect: 'string',
      tolerationSeconds: 'int64',
    }),
  ),
  securityContext: struct('PodSecurityContext', {
    runAsNonRoot: 'bool',
    runAsUser: 'int64',
    runAsGroup: 'int64',
    fsGroup: 'int64',
    fsGroupChangePolicy: 'string',
    supplementalGroups: list('int64'),
    ...any(
      'seccompProfile',
      'seLinuxOptions',
      'sysctls',
      'windowsOptions',
      'appArmorProfile',
      'supplementalGroupsPolicy',
    ),
  }),
  volumes: list(
    struct('Volume', {
      name: 'string',
      configMap: struct('ConfigMapVolumeSource', { name: 'string', ...keysToFiles }),
      secret: struct('SecretVolumeSource', { secretName: 'string', ...keysToFiles }),
      emptyDir: struct('EmptyDirVolumeSource', { medium: 'string', sizeLimit: 'quantity' }),
      hostPath: struct('HostPathVolumeSource', { path: 'string', type: 'string' }),
      nfs: struct('NFSVolumeSource', { server: 'string', path: 'string', readOnly: 'bool' }),
      persistentVolumeClaim: struct('PersistentVolumeClaimVolumeSource', { claimName: 'string', readOnly: 'bool' }),
      projected: struct('ProjectedVolumeSource', {
        defaultMode: 'int32',
        sources: list(
          struct('VolumeProjection', {
            configMap: struct('ConfigMapProjection', { name: 'string', ...chosenKeys }),
            ...any('secret', 'downwardAPI', 'serviceAccountToken', 'clusterTrustBundle', 'podCertificate'),
          }),
        ),
      }),
      ...any('downwardAPI', 'csi', 'ephemeral', 'image', 'iscsi', 'gitRepo'),
    }),
  ),
  ...any('affinity', 'topologySpreadConstraints', 'hostAliases', 'dnsConfig', 'readinessGates', 'overhead'),
  ...any(
    'setHostnameAsFQDN',
    'os',
    'schedulingGates',
    'resourceClaims',
    'resources',
    'hostUsers',
    'shareProcessNamespace',
  ),
  ...any('ephemeralContainers'),
})

const top: Record<string, Type> = { apiVersion: 'string', kind: 'string', metadata }

const schemas: Record<string, Struct> = {
  Namespace: struct('Namespace', { ...top, spec: struct('NamespaceSpec', any('finalizers')), status: 'any' }),
  Node: struct('Node', {
    ...top,
    spec: struct(
      'NodeSpec',
      any('taints', 'unschedulable', 'podCIDR', 'podCIDRs', 'providerID', 'configSource', 'externalID'),
    ),
    status: 'any',
  }),
  Secret: struct('Secret', {
    ...top,
    type: 'string',
    data: map('string'),
    stringData: map('string'),
    immutable: 'bool',
  }),
  ConfigMap: struct('ConfigMap', {
    ...top,
    data: map('string'),
    binaryData: map('string'),
    immutable: 'bool',
  }),
  PersistentVolume: struct('PersistentVolume', {
    ...top,
    spec: struct('PersistentVolumeSpec', {
      capacity: quantities,
      accessModes: list('string'),
      storageClassName: 'string',
      persistentVolumeReclaimPolicy: 'string',
      volumeMode: 'string',
      mountOptions: list('string'),
      hostPath: struct('HostPathVolumeSource', { path: 'string', type: 'string' }),
      nfs: struct('NFSVolumeSource', { server: 'string', path: 'string', readOnly: 'bool' }),
      ...any('claimRef', 'nodeAffinity', 'csi', 'local', 'volumeAttributesClassName'),
    }),
    status: 'any',
  }),
  PersistentVolumeClaim: struct('PersistentVolumeClaim', {
    ...top,
    spec: struct('PersistentVolumeClaimSpec', {
      accessModes: list('string'),
      resources: struct('VolumeResourceRequirements', { requests: quantities, limits: quantities }),
      storageClassName: 'string',
      volumeMode: 'string',
      volumeName: 'string',
      ...any('selector', 'dataSource', 'dataSourceRef', 'volumeAttributesClassName'),
    }),
    status: 'any',
  }),
  Event: struct('Event', {
    ...top,
    ...any('involvedObject', 'reason', 'message', 'source', 'firstTimestamp', 'lastTimestamp', 'count', 'type'),
    ...any('eventTime', 'series', 'action', 'related', 'reportingComponent', 'reportingInstance'),
  }),
  Pod: struct('Pod', { ...top, spec: podSpec, status: 'any' }),
  Job: struct('Job', {
    ...top,
    spec: struct('JobSpec', {
      parallelism: 'int32',
      completions: 'int32',
      activeDeadlineSeconds: 'int64',
      backoffLimit: 'int32',
      backoffLimitPerIndex: 'int32',
      maxFailedIndexes: 'int32',
      ttlSecondsAfterFinished: 'int32',
      completionMode: 'string',
      manualSelector: 'bool',
      suspend: 'bool',
      podReplacementPolicy: 'string',
      managedBy: 'string',
      podFailurePolicy: struct('PodFailurePolicy', {
        rules: list(
          struct('PodFailurePolicyRule', {
            action: 'string',
            onExitCodes: struct('PodFailurePolicyOnExitCodesRequirement', {
              containerName: 'string',
              operator: 'string',
              values: list('int32'),
            }),
            onPodConditions: list(
              struct('PodFailurePolicyOnPodConditionsPattern', { type: 'string', status: 'string' }),
            ),
          }),
        ),
      }),
      template: struct('PodTemplateSpec', { metadata, spec: podSpec }),
      ...any('selector', 'successPolicy'),
    }),
    status: 'any',
  }),
}

const quantity = /^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$/

/**
 * Refuses wrong types always, and unknown fields when `strict`, with the real API's words. Otherwise drops unknown fields
 * from the object and returns their paths. Quantities become canonical, as decoding makes them.
 */
export function decode(kind: string, object: unknown, strict: boolean): string[] {
  const schema = schemas[kind]
  if (!schema) return []
  const unknown: string[] = []
  const fail = (why: string) => badRequest(`${kind} in version "v1" cannot be handled as a ${kind}: ${why}`)
  walk(
    schema,
    object,
    '',
    '',
    (path) => unknown.push(path),
    (why) => {
      throw fail(why)
    },
  )
  if (strict && unknown.length > 0) {
    throw fail(`strict decoding error: ${unknown.map((path) => `unknown field "${path}"`).join(', ')}`)
  }
  return unknown
}

/** `path` counts list items as the strict decoder does; `goPath` leaves them out as encoding/json does. */
function walk(
  type: Type,
  value: unknown,
  path: string,
  goPath: string,
  unknown: (path: string) => void,
  fail: (why: string) => void,
): void {
  if (value === null || value === undefined || type === 'any') return
  const found = Array.isArray(value) ? 'array' : typeof value === 'boolean' ? 'bool' : typeof value
  const mismatch = (wanted: string) =>
    fail(`json: cannot unmarshal ${found} into Go struct field ${goPath} of type ${wanted}`)
  if (type === 'quantity') {
    if (!quantity.test(String(value))) {
      fail("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    }
  } else if (type === 'int32' || type === 'int64') {
    if (!Number.isInteger(value)) mismatch(type)
  } else if (type === 'string' || type === 'bool') {
    if (found !== type) mismatch(type)
  } else if ('list' in type) {
    if (!Array.isArray(value)) mismatch('[]interface {}')
    else for (const [index, item] of value.entries()) walk(type.list, item, `${path}[${index}]`, goPath, unknown, fail)
  } else if (found !== 'object') {
    mismatch('go' in type ? type.go : 'map[string]string')
  } else if ('map' in type) {
    for (const [key, item] of Object.entries(value)) {
      walk(type.map, item, `${path}.${key}`, goPath, unknown, fail)
      canonicalize(value, key, type.map)
    }
  } else {
    for (const [key, item] of Object.entries(value)) {
      const inner = path === '' ? key : `${path}.${key}`
      const field = type.fields[key]
      const outer = goPath.replace(/^[^.]*\.?/, '')
      if (field === undefined) {
        unknown(inner)
        delete (value as Record<string, unknown>)[key]
      } else {
        walk(field, item, inner, `${type.go}.${outer === '' ? '' : `${outer}.`}${key}`, unknown, fail)
        canonicalize(value, key, field)
      }
    }
  }
}

function canonicalize(parent: object, key: string, type: Type): void {
  const fields = parent as Record<string, string | number>
  const written = fields[key]
  if (type === 'quantity' && written !== undefined && written !== null) fields[key] = canonicalQuantity(written)
}
