import { randomBytes } from 'node:crypto'
import { events } from './kinds.mts'
import { type KubeObject, timestamp } from './objects.mts'
import type { Store } from './store.mts'

export interface EventNote {
  type: 'Normal' | 'Warning'
  reason: string
  message: string
  /** The container, where one is meant. */
  fieldPath?: string
  /** The node, for the kubelet's events. */
  host?: string
}

/** Writes Events; the same thing said again raises the count of the first, as the real recorders do. */
export class Recorder {
  readonly #store: Store
  readonly #component: string
  readonly #seen = new Map<string, KubeObject>()

  constructor(store: Store, component: string) {
    this.#store = store
    this.#component = component
  }

  record(object: KubeObject, { type, reason, message, fieldPath, host }: EventNote): void {
    const { metadata } = object
    const identity = JSON.stringify([metadata.uid, type, reason, message])
    const now = timestamp()
    const seen = this.#seen.get(identity)
    const counted =
      seen &&
      this.#store.modify(events, seen, (event) => {
        event.count = Number(event.count) + 1
        event.lastTimestamp = now
      })
    if (counted) return
    const namespace = metadata.namespace ?? 'default'
    const draft = {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name: `${metadata.name}.${randomBytes(8).toString('hex')}`, namespace },
      involvedObject: {
        apiVersion: object.apiVersion,
        kind: object.kind,
        name: metadata.name,
        ...(metadata.namespace && { namespace: metadata.namespace }),
        resourceVersion: metadata.resourceVersion,
        uid: metadata.uid,
        ...(fieldPath && { fieldPath }),
      },
      type,
      reason,
      message,
      count: 1,
      eventTime: null,
      firstTimestamp: now,
      lastTimestamp: now,
      reportingComponent: this.#component,
      reportingInstance: host ?? '',
      source: { component: this.#component, ...(host && { host }) },
    }
    this.#seen.set(identity, this.#store.create(events, draft as unknown as KubeObject))
  }
}
