import { jobs, type Kind, namespaces, pods } from './kinds.mts'
import { type KubeObject, type Pod, timestamp } from './objects.mts'
import { preconditionFailed } from './status.mts'
import type { Store } from './store.mts'

/** The body of a DELETE. */
export interface DeleteOptions {
  gracePeriodSeconds?: number
  propagationPolicy?: 'Orphan' | 'Background' | 'Foreground'
  preconditions?: { uid?: string; resourceVersion?: string }
  dryRun?: boolean
}

const finalizers = { Foreground: 'foregroundDeletion', Orphan: 'orphan' } as const

/**
 * Deletes as the API server does: at once when nothing holds the object, else by marking it with a deletionTimestamp;
 * the garbage collector, the kubelet or a controller then lets go of it. Returns the marked object, or undefined when it is gone.
 */
export function deleteObject(
  store: Store,
  kind: Kind,
  object: KubeObject,
  options: DeleteOptions,
): KubeObject | undefined {
  const { metadata } = object
  const { uid, resourceVersion } = options.preconditions ?? {}
  if (uid !== undefined && uid !== metadata.uid) throw preconditionFailed(kind, metadata.name, 'UID', uid, metadata.uid)
  if (resourceVersion !== undefined && resourceVersion !== metadata.resourceVersion) {
    throw preconditionFailed(kind, metadata.name, 'ResourceVersion', resourceVersion, metadata.resourceVersion)
  }
  const grace = kind === pods ? podGrace(object as Pod, options.gracePeriodSeconds) : 0
  const held = heldBy(kind, object, options)
  if (kind === namespaces) (object as KubeObject & { status: { phase: string } }).status.phase = 'Terminating'
  else if (held.length === 0 && grace === 0) {
    if (!options.dryRun) store.remove(kind, object)
    return undefined
  }
  metadata.finalizers = held
  if (metadata.deletionTimestamp === undefined || grace < (metadata.deletionGracePeriodSeconds ?? 0)) {
    metadata.deletionTimestamp = timestamp(Date.now() + grace * 1000)
    metadata.deletionGracePeriodSeconds = grace
  }
  if (held.length === 0) delete metadata.finalizers
  return store.update(kind, object, { dryRun: options.dryRun ?? false })
}

/** A batch/v1 Job orphans its pods unless a policy is given: an old default of the real API that kubectl overrides. */
function heldBy(kind: Kind, { metadata }: KubeObject, options: DeleteOptions): string[] {
  const policy = options.propagationPolicy ?? (kind === jobs ? 'Orphan' : 'Background')
  const ours: readonly string[] = Object.values(finalizers)
  const others = (metadata.finalizers ?? []).filter((finalizer) => !ours.includes(finalizer))
  if (policy === 'Background') return others
  return kind === jobs ? [...others, finalizers[policy]] : others
}

function podGrace(pod: Pod, wanted: number | undefined): number {
  if (!pod.spec.nodeName || pod.status.phase === 'Succeeded' || pod.status.phase === 'Failed') return 0
  const before = pod.metadata.deletionTimestamp === undefined ? undefined : pod.metadata.deletionGracePeriodSeconds
  const grace = wanted ?? pod.spec.terminationGracePeriodSeconds ?? 30
  return before === undefined ? grace : Math.min(grace, before)
}

/** The kubelet's and the controllers' own delete; absence is fine. */
export function ensureDeleted(store: Store, kind: Kind, object: KubeObject, options: DeleteOptions = {}): void {
  const current = store.get(kind, object.metadata.namespace, object.metadata.name)
  if (!current || current.metadata.uid !== object.metadata.uid) return
  deleteObject(store, kind, current, options)
}
