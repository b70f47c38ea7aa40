import { ensureDeleted } from './deletion.mts'
import { events, jobs, type Kind, kinds, namespaces, pods } from './kinds.mts'
import type { Job, KubeObject, Namespace, Pod } from './objects.mts'
import { WorkQueue } from './queue.mts'
import type { Store } from './store.mts'

/**
 * Owners and their dependents, of which there is one sort here: a Job and its pods. A Job deleted in the foreground waits
 * for its pods, one deleted in the background leaves them to be deleted after it, an orphaning one lets go of them.
 * Deleted namespaces are emptied here too.
 */
export class GarbageCollector {
  readonly #store: Store
  readonly #queue = new WorkQueue<string>((key) => this.#sync(key))
  readonly #stop: () => void

  constructor(store: Store) {
    this.#store = store
    this.#stop = store.subscribe(({ type, kind, object }) => {
      if (kind === jobs && (type === 'DELETED' || object.metadata.deletionTimestamp))
        this.#queue.add(`job ${object.metadata.namespace} ${object.metadata.uid}`)
      if (kind === pods) {
        for (const owner of object.metadata.ownerReferences ?? [])
          this.#queue.add(`job ${object.metadata.namespace} ${owner.uid}`)
      }
      if (kind === namespaces && object.metadata.deletionTimestamp) this.#queue.add(`namespace ${object.metadata.name}`)
      if (type === 'DELETED' && object.metadata.namespace) this.#queue.add(`namespace ${object.metadata.namespace}`)
    })
  }

  close(): void {
    this.#stop()
    this.#queue.close()
  }

  #sync(key: string): void {
    const [what, name = '', uid = ''] = key.split(' ')
    if (what === 'job') this.#syncJob(name, uid)
    else this.#syncNamespace(name)
  }

  #syncJob(namespace: string, uid: string): void {
    const job = this.#store.list<Job>(jobs, namespace).find((candidate) => candidate.metadata.uid === uid)
    const dependents = this.#store
      .list<Pod>(pods, namespace)
      .filter((pod) => pod.metadata.ownerReferences?.some((owner) => owner.uid === uid))
    if (!job) {
      for (const pod of dependents) if (!pod.metadata.deletionTimestamp) ensureDeleted(this.#store, pods, pod)
      return
    }
    if (!job.metadata.deletionTimestamp) return
    if (job.metadata.finalizers?.includes('foregroundDeletion')) {
      for (const pod of dependents) if (!pod.metadata.deletionTimestamp) ensureDeleted(this.#store, pods, pod)
      if (dependents.length === 0) this.#release(job, 'foregroundDeletion')
    } else if (job.metadata.finalizers?.includes('orphan')) {
      for (const pod of dependents) {
        this.#store.modify<Pod>(pods, pod, ({ metadata }) => {
          metadata.ownerReferences = (metadata.ownerReferences ?? []).filter((owner) => owner.uid !== uid)
          if (metadata.ownerReferences.length === 0) delete metadata.ownerReferences
        })
      }
      this.#release(job, 'orphan')
    }
  }

  #release(job: Job, finalizer: string): void {
    this.#store.modify<Job>(jobs, job, ({ metadata }) => {
      metadata.finalizers = (metadata.finalizers ?? []).filter((other) => other !== finalizer)
      if (metadata.finalizers.length === 0) delete metadata.finalizers
    })
  }

  #syncNamespace(name: string): void {
    const namespace = this.#store.get<Namespace>(namespaces, undefined, name)
    if (!namespace?.metadata.deletionTimestamp) return
    const contents = kinds
      .filter((kind) => kind.namespaced)
      .flatMap((kind) => this.#store.list(kind, name).map((object): [Kind, KubeObject] => [kind, object]))
    for (const [kind, object] of contents) {
      if (!object.metadata.deletionTimestamp)
        ensureDeleted(this.#store, kind, object, { propagationPolicy: 'Background' })
    }
    if (contents.every(([kind]) => kind === events)) this.#store.remove(namespaces, namespace)
  }
}
