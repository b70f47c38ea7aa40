import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Launch, prepareLaunch, terminationMessage } from './container-launch.mts'
import { ensureDeleted } from './deletion.mts'
import { pullError, shortImage } from './images.mts'
import { nodes, pods } from './kinds.mts'
import type { KubeletOptions } from './kubelet.mts'
import { ContainerLog } from './logs.mts'
import { type Container, type ContainerState, type Node, type Pod, timestamp } from './objects.mts'
import { ConfigError, environmentOf } from './pod-environment.mts'
import { containerId, type Ending, podStatus } from './pod-status.mts'
import { globalise, MountError, materialise } from './pod-volumes.mts'
import { ContainerProcess } from './process.mts'
import type { EventNote, Recorder } from './recorder.mts'
import type { Store } from './store.mts'

/** Milliseconds between a pod's assignment and the look at its images, and for the pull of one. */
export interface Delays {
  start: number
  pull: number
}

/** What a PodRun needs to know beside its pod. */
export interface PodRunOptions extends KubeletOptions {
  images: ReadonlySet<string>
  /** Milliseconds that steps of the pod's start take. */
  delays: Readonly<Delays>
}

/** The life of one pod on its node: volumes, image, containers as local processes, status, and its end. */
export class PodRun {
  readonly logs = new Map<string, ContainerLog>()
  readonly #store: Store
  readonly #recorder: Recorder
  readonly #options: PodRunOptions
  readonly #root: string
  readonly #states = new Map<string, ContainerState>()
  readonly #processes = new Set<ContainerProcess>()
  readonly #waiting = new Set<() => void>()
  #pod: Pod
  #ending: Ending = {}
  #stopping = false
  /** The pod has its volumes and an address. */
  #sandbox = false
  /** Nothing runs any more, nor will. */
  #ended = false
  /** The node cannot be reached: the process lives or not, but nobody hears of it. */
  #silent = false
  #finished: Promise<void> = Promise.resolve()
  #grace: NodeJS.Timeout | undefined

  constructor(store: Store, recorder: Recorder, pod: Pod, options: PodRunOptions) {
    this.#store = store
    this.#recorder = recorder
    this.#pod = pod
    this.#options = options
    this.#root = join(options.dir, 'pods', pod.metadata.uid)
    for (const { name } of this.#containers()) this.#states.set(name, { waiting: { reason: 'ContainerCreating' } })
  }

  /** Runs the pod to its end. */
  start(): Promise<void> {
    this.#finished = this.#live()
    return this.#finished
  }

  /** The pod as it stands now; a deletion starts the graceful end. */
  update(pod: Pod): void {
    this.#pod = pod
    const { deletionTimestamp, deletionGracePeriodSeconds = 0 } = pod.metadata
    if (deletionTimestamp && !this.#silent && !this.#ended) this.#terminate(deletionGracePeriodSeconds * 1000)
  }

  /** Something changed that a waiting pod may wait for. */
  retry(): void {
    for (const wake of [...this.#waiting]) wake()
  }

  /** Kills the containers at once. `reason` is what the runtime gives for it. */
  kill(ending: Ending): void {
    this.#ending = ending
    if (ending.reason) this.#say({ type: 'Warning', reason: ending.reason, message: ending.message ?? '' })
    this.#stop('SIGKILL')
  }

  /** A node that is cut off: what happens to the pod is not reported; with `kill` it loses power as well. */
  silence(kill: boolean): void {
    this.#silent = true
    if (kill) this.#stop('SIGKILL')
  }

  /** The node is back: the pod's state is reported, and a deletion carried out. */
  restore(): void {
    this.#silent = false
    const current = this.#store.get<Pod>(pods, this.#pod.metadata.namespace, this.#pod.metadata.name)
    if (current?.metadata.uid === this.#pod.metadata.uid) this.update(current)
    this.#report()
    if (this.#ended) this.#complete()
  }

  /** The object is gone: so are its processes and its folder. */
  async forget(): Promise<void> {
    this.#silent = true
    this.#stop('SIGKILL')
    await this.#finished
    await rm(this.#root, { recursive: true, force: true })
  }

  /** Ends the processes and waits for it; nothing is reported. */
  async close(): Promise<void> {
    this.#silent = true
    this.#stop('SIGKILL')
    await this.#finished
  }

  #containers(): Container[] {
    return [...(this.#pod.spec.initContainers ?? []), ...this.#pod.spec.containers]
  }

  async #live(): Promise<void> {
    const folders = ['home', 'tmp', 'rootfs', 'termination'].map((name) => join(this.#root, name))
    await Promise.all(folders.map((folder) => mkdir(folder, { recursive: true })))
    this.#report()
    const mount = () => materialise(this.#store, this.#pod, this.#root, this.#options.nfsFolder)
    const volumes = await this.#retrying(mount, (error) => {
      if (!(error instanceof MountError)) throw error
      this.#say({ type: 'Warning', reason: 'FailedMount', message: error.message })
    })
    await this.#delay(this.#options.delays.start)
    if (volumes) {
      this.#sandbox = true
      this.#report()
      for (const container of this.#pod.spec.initContainers ?? []) {
        if (!this.#failed()) await this.#runContainer(container, volumes)
      }
      const main = this.#failed() ? [] : this.#pod.spec.containers
      await Promise.all(main.map((container) => this.#runContainer(container, volumes)))
    }
    clearTimeout(this.#grace)
    this.#stopping = true
    this.#ended = true
    this.#report()
    this.#complete()
  }

  #failed(): boolean {
    return [...this.#states.values()].some(({ terminated }) => terminated && terminated.exitCode !== 0)
  }

  /** The kubelet's last word on a deleted pod: its object may go. */
  #complete(): void {
    if (!this.#pod.metadata.deletionTimestamp || this.#silent) return
    ensureDeleted(this.#store, pods, this.#pod, { gracePeriodSeconds: 0 })
  }

  async #runContainer(container: Container, volumes: Map<string, string>): Promise<void> {
    const { name } = container
    if (!(await this.#pull(container))) return
    const node = this.#store.get<Node>(nodes, undefined, this.#pod.spec.nodeName ?? '')
    const configure = async () => environmentOf(this.#store, this.#pod, node, container)
    const variables = await this.#retrying(configure, (error) => {
      if (!(error instanceof ConfigError)) throw error
      this.#enter(name, { waiting: { reason: 'CreateContainerConfigError', message: error.message } })
      this.#say({ type: 'Warning', reason: 'Failed', message: `Error: ${error.message}` }, name)
    })
    if (!variables) return
    this.#say({ type: 'Normal', reason: 'Created', message: `Created container: ${name}` }, name)
    const launch = await prepareLaunch(this.#pod, container, { ...this.#options, root: this.#root, volumes, variables })
    if (launch.fault) this.#failToStart(name, launch.fault)
    else await this.#execute(name, launch)
  }

  async #execute(name: string, launch: Launch): Promise<void> {
    const log = new ContainerLog((line) => globalise(line, launch.mounts))
    this.logs.set(name, log)
    const sinks = { stdout: log.sink(), stderr: log.sink() }
    const startedAt = timestamp()
    const process = new ContainerProcess(launch.argv, {
      ...launch,
      output: (stream, chunk) => sinks[stream].write(chunk),
    })
    this.#processes.add(process)
    if (this.#stopping) process.signal('SIGKILL')
    this.#enter(name, { running: { startedAt } })
    this.#say({ type: 'Normal', reason: 'Started', message: `Started container ${name}` }, name)
    const { exitCode } = await process.ended
    this.#processes.delete(process)
    sinks.stdout.end()
    sinks.stderr.end()
    const message = await terminationMessage(launch)
    const reason = this.#ending.containerReason ?? (exitCode === 0 ? 'Completed' : 'Error')
    this.#enter(name, {
      terminated: {
        containerID: containerId(this.#pod, name),
        exitCode,
        finishedAt: timestamp(),
        ...(message && { message }),
        reason,
        startedAt,
      },
    })
    log.end()
  }

  /** Without an image the container waits; the kubelet tells of the failure, then of its backing off. */
  async #pull({ name, image }: Container): Promise<boolean> {
    let backingOff = false
    const found = await this.#retrying(
      async () => {
        if (!this.#options.images.has(shortImage(image))) throw new Error(pullError(image))
        return true
      },
      ({ message }) => {
        if (!backingOff) {
          this.#say({ type: 'Normal', reason: 'Pulling', message: `Pulling image "${image}"` }, name)
          this.#say({ type: 'Warning', reason: 'Failed', message: `Failed to pull image "${image}": ${message}` }, name)
          this.#say({ type: 'Warning', reason: 'Failed', message: 'Error: ErrImagePull' }, name)
          this.#enter(name, { waiting: { reason: 'ErrImagePull', message } })
        }
        backingOff = true
        this.#say({ type: 'Normal', reason: 'BackOff', message: `Back-off pulling image "${image}"` }, name)
        this.#say({ type: 'Warning', reason: 'Failed', message: 'Error: ImagePullBackOff' }, name)
        const why = `Back-off pulling image "${image}": ErrImagePull: ${message}`
        this.#enter(name, { waiting: { reason: 'ImagePullBackOff', message: why } })
      },
    )
    if (!found) return false
    const { pull } = this.#options.delays
    if (pull > 0) {
      this.#say({ type: 'Normal', reason: 'Pulling', message: `Pulling image "${image}"` }, name)
      await this.#delay(pull)
    }
    const pulled = `Successfully pulled image "${image}" in ${pull}ms (${pull}ms including waiting)`
    const message = pull > 0 ? pulled : `Container image "${image}" already present on machine`
    this.#say({ type: 'Normal', reason: 'Pulled', message }, name)
    return !this.#stopping
  }

  /** The runtime refused to start the command. */
  #failToStart(name: string, message: string): void {
    this.#say({ type: 'Warning', reason: 'Failed', message: `Error: ${message}` }, name)
    const containerID = containerId(this.#pod, name)
    const times = { finishedAt: timestamp(), startedAt: timestamp(0) }
    this.#enter(name, { terminated: { containerID, exitCode: 128, message, reason: 'StartError', ...times } })
  }

  /** Tries until it works, each time something changed; undefined when the pod is to end before that. */
  async #retrying<T>(attempt: () => Promise<T>, failed: (error: Error) => void): Promise<T | undefined> {
    while (!this.#stopping) {
      // From before the attempt, so that no change in the middle of it is missed.
      const changed = this.#change()
      try {
        return await attempt()
      } catch (error) {
        failed(error as Error)
      }
      await changed
    }
    return undefined
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#waiting.delete(wake)
        resolve()
      }
      this.#waiting.add(wake)
    })
  }

  async #delay(milliseconds: number): Promise<void> {
    const until = Date.now() + milliseconds
    while (!this.#stopping && Date.now() < until) {
      const timer = setTimeout(() => this.retry(), until - Date.now())
      await this.#change()
      clearTimeout(timer)
    }
  }

  /** The graceful end: SIGTERM, then SIGKILL when the time is over. A second deletion can only shorten it. */
  #terminate(grace: number): void {
    if (!this.#stopping) {
      for (const { name } of this.#containers()) {
        if (this.#states.get(name)?.running)
          this.#say({ type: 'Normal', reason: 'Killing', message: `Stopping container ${name}` }, name)
      }
      this.#stop('SIGTERM')
    }
    clearTimeout(this.#grace)
    this.#grace = setTimeout(() => this.#stop('SIGKILL'), grace)
  }

  #stop(signal: 'SIGTERM' | 'SIGKILL'): void {
    this.#stopping = true
    for (const process of this.#processes) process.signal(signal)
    this.retry()
  }

  #enter(name: string, state: ContainerState): void {
    this.#states.set(name, state)
    this.#report()
  }

  #say(note: EventNote, container?: string): void {
    if (this.#silent) return
    const { nodeName } = this.#pod.spec
    const place = container === undefined ? {} : { fieldPath: `spec.containers{${container}}` }
    this.#recorder.record(this.#pod, { ...note, ...place, ...(nodeName && { host: nodeName }) })
  }

  #report(): void {
    if (this.#silent) return
    const node = this.#store.get<Node>(nodes, undefined, this.#pod.spec.nodeName ?? '')
    const ending = this.#ended ? this.#ending : undefined
    this.#store.modify<Pod>(pods, this.#pod, (pod) => {
      pod.status = podStatus(pod, node, { states: this.#states, sandbox: this.#sandbox, ending })
    })
  }
}
