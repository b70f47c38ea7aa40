import { configMaps, secrets } from './kinds.mts'
import type { ConfigMap, Container, EnvVar, Node, Pod, Secret } from './objects.mts'
import { quantity } from './quantity.mts'
import type { Store } from './store.mts'

/** A container that cannot be configured yet, in the kubelet's words. */
export class ConfigError extends Error {}

/** The variables of the manifest: envFrom first, then env in order, with `$(NAME)` filled in. */
export function environmentOf(
  store: Store,
  pod: Pod,
  node: Node | undefined,
  container: Container,
): Record<string, string> {
  const result: Record<string, string> = {}
  for (const { prefix = '', secretRef, configMapRef } of container.envFrom ?? []) {
    const values = secretRef
      ? secretValues(store, pod, secretRef.name, secretRef.optional)
      : configValues(store, pod, configMapRef?.name ?? '', configMapRef?.optional)
    for (const [key, value] of Object.entries(values)) result[prefix + key] = value
  }
  for (const variable of container.env ?? []) {
    const value = resolve(store, pod, node, container, variable, result)
    if (value !== undefined) result[variable.name] = value
  }
  return result
}

/** `$(NAME)` becomes the variable's value when there is one, `$$(NAME)` the text `$(NAME)`. */
export function expand(text: string, variables: Record<string, string>): string {
  return text.replace(/\$\$|\$\(([^)]*)\)/g, (all, name?: string) =>
    name === undefined ? '$' : (variables[name] ?? all),
  )
}

function secretValues(store: Store, pod: Pod, name: string, optional = false): Record<string, string> {
  const secret = store.get<Secret>(secrets, pod.metadata.namespace, name)
  if (!secret && !optional) throw new ConfigError(`secret "${name}" not found`)
  const decoded = Object.entries(secret?.data ?? {}).map(([key, value]) => [
    key,
    Buffer.from(value, 'base64').toString(),
  ])
  return Object.fromEntries(decoded)
}

function configValues(store: Store, pod: Pod, name: string, optional = false): Record<string, string> {
  const map = store.get<ConfigMap>(configMaps, pod.metadata.namespace, name)
  if (!map && !optional) throw new ConfigError(`configmap "${name}" not found`)
  return map?.data ?? {}
}

function resolve(
  store: Store,
  pod: Pod,
  node: Node | undefined,
  container: Container,
  { value, valueFrom }: EnvVar,
  known: Record<string, string>,
): string | undefined {
  if (!valueFrom) return expand(value ?? '', known)
  const { secretKeyRef, configMapKeyRef, fieldRef, resourceFieldRef } = valueFrom
  const place = `${pod.metadata.namespace}/`
  if (secretKeyRef) {
    const { name, key, optional } = secretKeyRef
    return keyed(secretValues(store, pod, name, optional), key, optional, `Secret ${place}${name}`)
  }
  if (configMapKeyRef) {
    const { name, key, optional } = configMapKeyRef
    return keyed(configValues(store, pod, name, optional), key, optional, `ConfigMap ${place}${name}`)
  }
  if (fieldRef) return field(pod, fieldRef.fieldPath)
  return resourceFieldRef && String(resource(container, node, resourceFieldRef.resource, resourceFieldRef.divisor))
}

function keyed(values: Record<string, string>, key: string, optional = false, where: string): string | undefined {
  if (!(key in values) && !optional) throw new ConfigError(`couldn't find key ${key} in ${where}`)
  return values[key]
}

function field({ metadata, spec, status }: Pod, path: string): string {
  const map = /^metadata\.(labels|annotations)\['(.+)'\]$/.exec(path)
  if (map) return metadata[map[1] as 'labels' | 'annotations']?.[map[2] ?? ''] ?? ''
  const plain: Record<string, unknown> = {
    'metadata.name': metadata.name,
    'metadata.namespace': metadata.namespace,
    'metadata.uid': metadata.uid,
    'spec.nodeName': spec.nodeName,
    'spec.serviceAccountName': spec.serviceAccountName,
    'status.podIP': status.podIP,
    'status.hostIP': status.hostIP,
  }
  if (!(path in plain)) throw new ConfigError(`unsupported fieldPath: ${path}`)
  return String(plain[path] ?? '')
}

/** A limit that is not set is the node's allocatable, as in the real API. */
function resource({ resources }: Container, node: Node | undefined, path: string, divisor: string | undefined): number {
  const [, kind, name = ''] = /^(limits|requests)\.(.+)$/.exec(path) ?? []
  const set = resources?.[kind as 'limits' | 'requests']?.[name]
  const amount = quantity(set ?? (kind === 'limits' ? node?.status.allocatable[name] : undefined))
  return Math.ceil(amount / (quantity(divisor && divisor !== '0' ? divisor : '1') || 1))
}
