import { configMaps, type Kind, persistentVolumeClaims, persistentVolumes, pods, secrets } from './kinds.mts'
import type { Pod } from './objects.mts'
import { type Delays, PodRun } from './pod-run.mts'
import type { Recorder } from './recorder.mts'
import type { LogQuery } from './request.mts'
import type { LogSource } from './server.mts'
import { type ApiError, badRequest } from './status.mts'
import type { Store } from './store.mts'

export interface KubeletOptions {
  /** Where pods' folders go: `pods/<uid>`. */
  dir: string
  /** The folder put first in the pods' PATH. */
  python: string
  /** The local folder behind an NFS volume of this name. */
  nfsFolder: (name: string) => string
}

/** What `kubectl logs` is told for a container that has not started. */
const waiting: Record<string, string> = {
  ImagePullBackOff: 'trying and failing to pull image',
  ErrImagePull: "image can't be pulled",
}

/** What a pod may be waiting for. */
const awaited: readonly Kind[] = [configMaps, secrets, persistentVolumes, persistentVolumeClaims]

/** Runs the pods of all nodes; one PodRun for each pod that has a node, until its object is gone. */
export class Kubelet implements LogSource {
  /** The images that can be pulled. */
  readonly images = new Set(['python:3.11-slim', 'busybox:1.36'])
  readonly delays: Delays = { start: 0, pull: 0 }
  readonly #store: Store
  readonly #recorder: Recorder
  readonly #options: KubeletOptions
  readonly #runs = new Map<string, PodRun>()
  readonly #stop: () => void

  constructor(store: Store, recorder: Recorder, options: KubeletOptions) {
    this.#store = store
    this.#recorder = recorder
    this.#options = options
    this.#stop = store.subscribe(({ type, kind, object }) => {
      if (kind === pods) this.#follow(type, object as Pod)
      else if (awaited.includes(kind)) this.retry()
    })
  }

  run(pod: Pod): PodRun | undefined {
    return this.#runs.get(pod.metadata.uid)
  }

  /** Lets pods that wait for something look again. */
  retry(): void {
    for (const run of this.#runs.values()) run.retry()
  }

  async stream(pod: Pod, query: LogQuery, write: (chunk: string) => void, signal: AbortSignal): Promise<void> {
    const names = [...(pod.spec.initContainers ?? []), ...pod.spec.containers].map(({ name }) => name)
    const name = query.container ?? pod.spec.containers[0]?.name ?? ''
    if (!names.includes(name)) throw badRequest(`container ${name} is not valid for pod ${pod.metadata.name}`)
    // The real API answers for a pod without a node with an empty log.
    if (!pod.spec.nodeName) return
    const log = this.run(pod)?.logs.get(name)
    if (!log) throw notStarted(pod, name)
    await log.read(query, write, signal)
  }

  /** Kills every container, by its own process group, and waits until all have ended. */
  async close(): Promise<void> {
    this.#stop()
    await Promise.all([...this.#runs.values()].map((run) => run.close()))
  }

  #follow(type: string, pod: Pod): void {
    if (!pod.spec.nodeName) return
    const { uid } = pod.metadata
    const run = this.#runs.get(uid)
    if (type === 'DELETED') run?.forget().then(() => this.#runs.delete(uid), crash)
    else if (run) run.update(structuredClone(pod))
    else if (pod.status.phase === 'Pending') {
      const started = new PodRun(this.#store, this.#recorder, structuredClone(pod), {
        ...this.#options,
        images: this.images,
        delays: this.delays,
      })
      this.#runs.set(uid, started)
      started.start().catch(crash)
    }
  }
}

/** An error nobody foresaw must end the test run, not vanish. */
function crash(error: unknown): void {
  setImmediate(() => {
    throw error
  })
}

function notStarted(pod: Pod, name: string): ApiError {
  const state = pod.status.containerStatuses?.find((container) => container.name === name)?.state
  const reason = state?.waiting?.reason ?? 'ContainerCreating'
  return badRequest(
    `container "${name}" in pod "${pod.metadata.name}" is waiting to start: ${waiting[reason] ?? reason}`,
  )
}
