import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { type Kind, qualifiedPlural } from './kinds.mts'
import { type KubeObject, timestamp } from './objects.mts'
import { alreadyExists, modified, notFound } from './status.mts'

export interface Change {
  type: 'ADDED' | 'MODIFIED' | 'DELETED'
  kind: Kind
  object: KubeObject
  /** What stood there before; absent for ADDED. */
  before?: KubeObject
}

/** A change is kept for watches that start at an older resourceVersion, as etcd does until it compacts. */
const HISTORY = 20_000

/**
 * All objects with their versions. Objects that go in and come out are copies, so nobody edits the store by accident.
 * Listeners are called at once and must not write: controllers note the key and write later.
 */
export class Store {
  readonly #objects = new Map<string, KubeObject>()
  readonly #listeners = new Set<(change: Change) => void>()
  #history: { version: number; change: Change }[] = []
  #version = 100

  get version(): string {
    return String(this.#version)
  }

  get<T extends KubeObject>(kind: Kind, namespace: string | undefined, name: string): T | undefined {
    const object = this.#objects.get(key(kind, namespace, name))
    return object && (structuredClone(object) as T)
  }

  /** As get, but absence is the API's NotFound. */
  read<T extends KubeObject>(kind: Kind, namespace: string | undefined, name: string): T {
    const object = this.get<T>(kind, namespace, name)
    if (!object) throw notFound(kind, name)
    return object
  }

  /** In the order of etcd's keys: by namespace, then name. */
  list<T extends KubeObject>(kind: Kind, namespace?: string): T[] {
    const prefix = namespace === undefined ? `${qualifiedPlural(kind)}/` : `${qualifiedPlural(kind)}/${namespace}/`
    const keys = [...this.#objects.keys()].filter((candidate) => candidate.startsWith(prefix)).sort()
    return keys.map((found) => structuredClone(this.#objects.get(found)) as T)
  }

  /** Adds the object with a uid, a version and a creation time of its own. */
  create<T extends KubeObject>(kind: Kind, draft: T, options: { dryRun?: boolean } = {}): T {
    const object = structuredClone(draft)
    const { namespace, name } = object.metadata
    if (this.#objects.has(key(kind, namespace, name))) throw alreadyExists(kind, name)
    object.metadata.uid ??= randomUUID()
    object.metadata.creationTimestamp ??= timestamp()
    if (kind.counted) object.metadata.generation = 1
    if (options.dryRun) return object
    this.#put(kind, object)
    this.#tell({ type: 'ADDED', kind, object })
    return structuredClone(object)
  }

  /** Replaces the object; a resourceVersion that is not the stored one is a Conflict. Removes it when it was only waiting for its last finalizer. */
  update<T extends KubeObject>(kind: Kind, after: T, options: { dryRun?: boolean } = {}): T {
    const { namespace, name, resourceVersion } = after.metadata
    const before = this.#objects.get(key(kind, namespace, name))
    if (!before) throw notFound(kind, name)
    if (resourceVersion && resourceVersion !== before.metadata.resourceVersion) throw modified(kind, name)
    const object = structuredClone(after)
    object.metadata.resourceVersion = before.metadata.resourceVersion
    if (isDeepStrictEqual(object, before)) return object
    if (kind.counted) {
      const changed = !isDeepStrictEqual(wish(object), wish(before)) || deleting(object) !== deleting(before)
      object.metadata.generation = (before.metadata.generation ?? 1) + (changed ? 1 : 0)
    }
    if (options.dryRun) return object
    if (released(object)) {
      this.#drop(kind, object, before)
    } else {
      this.#put(kind, object)
      this.#tell({ type: 'MODIFIED', kind, object, before })
    }
    return structuredClone(object)
  }

  /** Reads, edits and writes back in one step; undefined when the object is gone. */
  modify<T extends KubeObject>(kind: Kind, object: KubeObject, edit: (current: T) => void): T | undefined {
    const current = this.get<T>(kind, object.metadata.namespace, object.metadata.name)
    if (!current || current.metadata.uid !== object.metadata.uid) return undefined
    edit(current)
    return this.update(kind, current)
  }

  /** Removes the object whatever finalizers it has. */
  remove(kind: Kind, object: KubeObject): void {
    const before = this.#objects.get(key(kind, object.metadata.namespace, object.metadata.name))
    if (before && before.metadata.uid === object.metadata.uid) this.#drop(kind, structuredClone(before), before)
  }

  /** Changes from now on, after those since `version` if one is given. Returns the way to stop. */
  subscribe(listener: (change: Change) => void, version?: number): () => void {
    if (version !== undefined) for (const past of this.#history) if (past.version > version) listener(past.change)
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  #put(kind: Kind, object: KubeObject): void {
    object.metadata.resourceVersion = String(++this.#version)
    this.#objects.set(key(kind, object.metadata.namespace, object.metadata.name), object)
  }

  #drop(kind: Kind, object: KubeObject, before: KubeObject): void {
    this.#objects.delete(key(kind, object.metadata.namespace, object.metadata.name))
    object.metadata.resourceVersion = String(++this.#version)
    this.#tell({ type: 'DELETED', kind, object, before })
  }

  #tell(change: Change): void {
    this.#history.push({ version: this.#version, change })
    if (this.#history.length > HISTORY) this.#history = this.#history.slice(HISTORY / 2)
    for (const listener of [...this.#listeners]) listener(change)
  }
}

function key(kind: Kind, namespace: string | undefined, name: string): string {
  return kind.namespaced ? `${qualifiedPlural(kind)}/${namespace}/${name}` : `${qualifiedPlural(kind)}/${name}`
}

/** What the generation counts the changes of: the spec, less the node that the scheduler writes into a pod's. */
function wish(object: KubeObject): unknown {
  const { nodeName: _, ...spec } = (object.spec ?? {}) as Record<string, unknown>
  return spec
}

function deleting(object: KubeObject): boolean {
  return object.metadata.deletionTimestamp !== undefined
}

/**
 * An object under deletion goes when nothing holds it: no finalizer (a Namespace has its own in spec), and no grace period
 * that the kubelet has yet to end.
 */
function released(object: KubeObject): boolean {
  const { finalizers, deletionGracePeriodSeconds } = object.metadata
  const own = (object.spec as { finalizers?: string[] } | undefined)?.finalizers
  return deleting(object) && !finalizers?.length && !own?.length && !deletionGracePeriodSeconds
}
