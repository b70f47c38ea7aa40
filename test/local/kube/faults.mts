import { ensureDeleted } from './deletion.mts'
import type { JobController } from './job-controller.mts'
import { nodes, pods } from './kinds.mts'
import type { Kubelet } from './kubelet.mts'
import { type Node, type Pod, setCondition, timestamp } from './objects.mts'
import type { Delays, PodRun } from './pod-run.mts'
import type { Resources } from './resources.mts'
import type { Scheduler } from './scheduler.mts'
import type { Store } from './store.mts'

const UNREACHABLE = 'node.kubernetes.io/unreachable'

interface Parts {
  kubelet: Kubelet
  scheduler: Scheduler
  jobController: JobController
  resources: Resources
}

/** The states of a cluster that a user must be told about, brought about on purpose. */
export class Faults {
  readonly #store: Store
  readonly #parts: Parts

  constructor(store: Store, parts: Parts) {
    this.#store = store
    this.#parts = parts
  }

  /** Ends the pod's containers with SIGKILL (exit code 137), as the kernel does when the memory limit is passed, or as `kill -9`. */
  killPod(namespace: string, name: string, reason: 'OOMKilled' | 'Error' = 'Error'): void {
    this.#run(namespace, name).kill({ containerReason: reason })
  }

  /**
   * Evicts the pod as the kubelet does. A node that is short of something also marks it as disrupted (which podFailurePolicy
   * can ignore); a pod that passed its own limit of disk is not.
   */
  evictPod(namespace: string, name: string, message: string, disruption = false): void {
    const marked = disruption ? { disruption: 'TerminationByKubelet' } : {}
    this.#run(namespace, name).kill({ reason: 'Evicted', message, ...marked })
  }

  /** Changes a node: its taints, what it can hold, whether it takes pods. */
  editNode(name: string, edit: (node: Node) => void): void {
    const node = this.#store.read<Node>(nodes, undefined, name)
    this.#store.modify<Node>(nodes, node, edit)
  }

  /** Cuts the node off: it is NotReady at once, what its pods do is not heard of. With `power` off their processes are killed. */
  cutNode(name: string, { power }: { power: boolean }): void {
    this.#setReady(name, 'Unknown', 'NodeStatusUnknown', 'Kubelet stopped posting node status.')
    this.editNode(name, ({ spec }) => {
      const timeAdded = timestamp()
      const own = (['NoSchedule', 'NoExecute'] as const).map((effect) => ({ key: UNREACHABLE, effect, timeAdded }))
      spec.taints = [...(spec.taints ?? []), ...own]
    })
    for (const pod of this.#podsOf(name)) {
      this.#parts.kubelet.run(pod)?.silence(!power)
      // The node controller's doing, for the kubelet says nothing any more.
      this.#store.modify<Pod>(pods, pod, ({ status }) => {
        status.conditions = setCondition(status.conditions ?? [], { type: 'Ready', status: 'False' })
      })
    }
  }

  /** What happens when a cut node stays away (after 300 s in Kubernetes): its pods are marked for deletion, and stay Terminating. */
  evictFromNode(name: string): void {
    for (const pod of this.#podsOf(name)) {
      this.#store.modify<Pod>(pods, pod, ({ status }) => {
        status.conditions = setCondition(status.conditions ?? [], {
          type: 'DisruptionTarget',
          status: 'True',
          reason: 'DeletionByTaintManager',
          message: 'Taint manager: deleting due to NoExecute taint',
          lastProbeTime: null,
        })
      })
      ensureDeleted(this.#store, pods, pod)
    }
  }

  /** The cut node is back: it reports what became of its pods and carries out their deletion. */
  restoreNode(name: string): void {
    this.#setReady(name, 'True', 'KubeletReady', 'kubelet is posting ready status')
    this.editNode(name, ({ spec }) => {
      spec.taints = (spec.taints ?? []).filter(({ key }) => key !== UNREACHABLE)
      if (spec.taints.length === 0) delete spec.taints
    })
    for (const pod of this.#podsOf(name)) this.#parts.kubelet.run(pod)?.restore()
  }

  /** Makes an image pullable, or not. A pod that waits for it goes on. */
  setImage(image: string, pullable: boolean): void {
    const { kubelet } = this.#parts
    if (pullable) kubelet.images.add(image)
    else kubelet.images.delete(image)
    kubelet.retry()
  }

  /** Milliseconds that each pod from now on spends in ContainerCreating: before anything, and while an image is pulled. */
  delay(delays: Partial<Delays>): void {
    Object.assign(this.#parts.kubelet.delays, delays)
  }

  /** Pods stay Pending without a condition until the scheduler goes on. */
  pauseScheduler(paused: boolean): void {
    this.#parts.scheduler.pause(paused)
  }

  /** Refuses the Jobs' pods with this message, as a quota or an admission webhook does; undefined lets them pass again. */
  refusePods(message: string | undefined): void {
    this.#parts.jobController.refusePods(message)
  }

  /** Refuses new objects of a kind (`jobs`) with this message, as a quota of their number does, whoever makes them; access reviews know nothing of it. */
  refuseObjects(plural: string, message: string | undefined): void {
    this.#parts.resources.refuse(plural, message)
  }

  #run(namespace: string, name: string): PodRun {
    const pod = this.#store.read<Pod>(pods, namespace, name)
    const run = this.#parts.kubelet.run(pod)
    if (!run) throw new Error(`pod ${namespace}/${name} has no node`)
    return run
  }

  #podsOf(node: string): Pod[] {
    return this.#store.list<Pod>(pods).filter(({ spec }) => spec.nodeName === node)
  }

  #setReady(name: string, status: 'True' | 'Unknown', reason: string, message: string): void {
    this.editNode(name, (node) => {
      node.status.conditions = setCondition(node.status.conditions, { type: 'Ready', status, reason, message })
    })
  }
}
