import { randomInt, randomUUID } from 'node:crypto'
import { applyDefaults, prepare } from './defaults.mts'
import { type DeleteOptions, deleteObject } from './deletion.mts'
import { apiVersion, events, jobs, type Kind, namespaces } from './kinds.mts'
import type { Job, KubeObject, Namespace } from './objects.mts'
import { applyPatch, type Json, jsonPatch, mergePatch, strategicMergePatch } from './patch.mts'
import { decode } from './schema.mts'
import { ApiError, badRequest, forbidden, notFound } from './status.mts'
import type { Store } from './store.mts'
import { validateCreate, validateUpdate } from './validation.mts'

export interface WriteOptions {
  dryRun: boolean
  /** Ignore, Warn or Strict: what happens to unknown fields beside their being dropped. */
  fieldValidation: string
  /** Tells the client something that is no error. */
  warn: (text: string) => void
}

export type PatchType = 'json' | 'merge' | 'strategic' | 'apply'

/** The five letters at the end of a generated name, from the alphabet of the real API (no vowels, so no words). */
export function nameSuffix(): string {
  const alphabet = 'bcdfghjklmnpqrstvwxz2456789'
  return Array.from({ length: 5 }, () => alphabet[randomInt(alphabet.length)]).join('')
}

/** What users may do to objects: the API server's part between HTTP and the store. */
export class Resources {
  readonly #store: Store
  /** What each field manager last applied, by uid and manager (the real API keeps it in managedFields). */
  readonly #applied = new Map<string, Json>()
  /** What admission says to new objects of a kind, by its plural. */
  readonly #refusals = new Map<string, string>()

  constructor(store: Store) {
    this.#store = store
  }

  /** Refuses new objects of a kind with this message; undefined takes them again. */
  refuse(plural: string, message: string | undefined): void {
    if (message === undefined) this.#refusals.delete(plural)
    else this.#refusals.set(plural, message)
  }

  create(kind: Kind, namespace: string | undefined, body: KubeObject, options: WriteOptions): KubeObject {
    const object = this.#decode(kind, body, options)
    const { metadata } = object
    if (kind.namespaced) {
      if (metadata.namespace !== undefined && metadata.namespace !== namespace) {
        throw badRequest('the namespace of the provided object does not match the namespace sent on the request')
      }
      if (namespace !== undefined) metadata.namespace = namespace
      this.#mustTakeObjects(namespace ?? '', kind)
    } else delete metadata.namespace
    if (!metadata.name && metadata.generateName) metadata.name = metadata.generateName + nameSuffix()
    metadata.uid = randomUUID()
    for (const set of ['resourceVersion', 'creationTimestamp', 'generation', 'deletionTimestamp'] as const)
      delete metadata[set]
    if (kind !== events) delete object.status
    applyDefaults(kind, object)
    prepare(kind, object)
    validateCreate(kind, object)
    const refusal = this.#refusals.get(kind.plural)
    if (refusal !== undefined) {
      const what = `${kind.plural}${kind.group && `.${kind.group}`} "${metadata.name}"`
      throw forbidden(`${what} is forbidden: ${refusal}`, { name: metadata.name, kind: kind.plural })
    }
    return this.#store.create(kind, object, options)
  }

  replace(
    kind: Kind,
    namespace: string | undefined,
    name: string,
    body: KubeObject,
    options: WriteOptions,
  ): KubeObject {
    const before = this.#store.read(kind, namespace, name)
    const after = this.#decode(kind, body, options)
    return this.#change(kind, before, after, options)
  }

  patch(
    kind: Kind,
    namespace: string | undefined,
    name: string,
    type: PatchType,
    patch: Json,
    options: WriteOptions & { manager: string },
  ): KubeObject {
    const before = this.#store.get(kind, namespace, name)
    if (type === 'apply') return this.#apply(kind, namespace, name, before, patch, options)
    if (!before) throw notFound(kind, name)
    const apply = { json: jsonPatch, merge: mergePatch, strategic: strategicMergePatch }[type]
    const after = apply(before as unknown as Json, patch) as unknown as KubeObject
    return this.#change(kind, before, this.#decode(kind, after, options), options)
  }

  delete(kind: Kind, namespace: string | undefined, name: string, options: DeleteOptions): KubeObject | undefined {
    return deleteObject(this.#store, kind, this.#store.read(kind, namespace, name), options)
  }

  #apply(
    kind: Kind,
    namespace: string | undefined,
    name: string,
    before: KubeObject | undefined,
    patch: Json,
    options: WriteOptions & { manager: string },
  ): KubeObject {
    const draft = patch as unknown as KubeObject
    const unknown = decode(kind.kind, structuredClone(draft), false)
    if (unknown.length > 0) {
      const faults = unknown.map((path) => `.${path}: field not declared in schema`)
      const lines = faults.length === 1 ? faults[0] : `errors:\n  ${faults.join('\n  ')}`
      const subject = `${namespace ?? ''}/${name}; ${apiVersion(kind)}, Kind=${kind.kind}`
      throw new ApiError(500, '', `failed to create typed patch object (${subject}): ${lines}`)
    }
    const previous = before && this.#applied.get(`${before.metadata.uid} ${options.manager}`)
    const merged = applyPatch(before as unknown as Json | undefined, patch, previous) as unknown as KubeObject
    if (!before) merged.metadata.name = name
    const after = before
      ? this.#change(kind, before, this.#decode(kind, merged, options), options)
      : this.create(kind, namespace, merged, options)
    if (!options.dryRun) this.#applied.set(`${after.metadata.uid} ${options.manager}`, patch)
    return after
  }

  #change(kind: Kind, before: KubeObject, after: KubeObject, options: WriteOptions): KubeObject {
    const { metadata } = after
    if (metadata.name !== before.metadata.name) {
      throw badRequest(
        `the name of the object (${metadata.name}) does not match the name on the URL (${before.metadata.name})`,
      )
    }
    for (const kept of [
      'namespace',
      'creationTimestamp',
      'generation',
      'deletionTimestamp',
      'deletionGracePeriodSeconds',
    ] as const) {
      if (before.metadata[kept] === undefined) delete metadata[kept]
      else Object.assign(metadata, { [kept]: before.metadata[kept] })
    }
    metadata.uid ??= before.metadata.uid
    for (const map of ['labels', 'annotations'] as const) {
      if (metadata[map] && Object.keys(metadata[map]).length === 0) delete metadata[map]
    }
    if (metadata.finalizers?.length === 0) delete metadata.finalizers
    // The status belongs to the controllers; users reach it through a subresource only.
    if (before.status === undefined) delete after.status
    else after.status = before.status
    applyDefaults(kind, after)
    if (kind === jobs) this.#keepJobLabels(after as Job, before as Job)
    validateUpdate(kind, after, before)
    return this.#store.update(kind, after, options)
  }

  /** A client that replaces a Job's template does not name the labels that the API added to it. */
  #keepJobLabels(after: Job, before: Job): void {
    const own = before.spec.template.metadata.labels ?? {}
    const template = after.spec.template
    template.metadata = { ...template.metadata, labels: { ...template.metadata?.labels } }
    for (const [key, value] of Object.entries(own)) {
      if (/(^|\/)(controller-uid|job-name)$/.test(key))
        template.metadata.labels = { ...template.metadata.labels, [key]: value }
    }
    after.spec.selector ??= before.spec.selector
  }

  #decode(kind: Kind, body: KubeObject, options: WriteOptions): KubeObject {
    if (typeof body !== 'object' || body === null)
      throw badRequest('the object provided is unrecognized (must be of type Object)')
    if (body.kind !== kind.kind || body.apiVersion !== apiVersion(kind)) {
      throw badRequest(
        `${body.kind} in version "${body.apiVersion}" cannot be handled as a ${kind.kind}: no kind "${body.kind}" is registered`,
      )
    }
    const object = structuredClone(body)
    const dropped = decode(kind.kind, object, options.fieldValidation === 'Strict')
    if (options.fieldValidation === 'Warn') for (const path of dropped) options.warn(`unknown field "${path}"`)
    object.metadata ??= {} as KubeObject['metadata']
    delete (object.metadata as { managedFields?: unknown }).managedFields
    return object
  }

  #mustTakeObjects(namespace: string, kind: Kind): void {
    const home = this.#store.read<Namespace>(namespaces, undefined, namespace)
    if (home.status.phase === 'Terminating') {
      throw forbidden(`unable to create new content in namespace ${namespace} because it is being terminated`, {
        name: namespace,
        kind: kind.plural,
        causes: [
          {
            reason: 'NamespaceTerminating',
            message: `namespace ${namespace} is being terminated`,
            field: 'metadata.namespace',
          },
        ],
      })
    }
  }
}
