import { nodes, persistentVolumeClaims, persistentVolumes, pods } from './kinds.mts'
import {
  type Node,
  type PersistentVolumeClaim,
  type Pod,
  type PodSpec,
  setCondition,
  type Taint,
  type Toleration,
} from './objects.mts'
import { quantity } from './quantity.mts'
import { WorkQueue } from './queue.mts'
import type { Recorder } from './recorder.mts'
import type { Store } from './store.mts'

/** A pod's requests; a pod takes one of `pods` too. */
function requestsOf(spec: PodSpec): Map<string, number> {
  const sum = new Map<string, number>([['pods', 1]])
  for (const { resources } of spec.containers) {
    for (const [name, amount] of Object.entries(resources?.requests ?? {}))
      sum.set(name, (sum.get(name) ?? 0) + quantity(amount))
  }
  for (const { resources } of spec.initContainers ?? []) {
    for (const [name, amount] of Object.entries(resources?.requests ?? {})) {
      sum.set(name, Math.max(sum.get(name) ?? 0, quantity(amount)))
    }
  }
  return sum
}

/** Why a node does not take a pod; `hopeless` = no other pod's end could change that. */
interface Obstacle {
  reason: string
  hopeless: boolean
}

/** Assigns pods to nodes by taints, selectors and requests; again whenever a pod, node, claim or volume changes. */
export class Scheduler {
  readonly #store: Store
  readonly #recorder: Recorder
  readonly #queue = new WorkQueue<'all'>(() => this.#sync())
  readonly #stop: () => void
  #paused = false

  constructor(store: Store, recorder: Recorder) {
    this.#store = store
    this.#recorder = recorder
    this.#stop = store.subscribe(({ kind }) => {
      if (kind === pods || kind === nodes || kind === persistentVolumeClaims || kind === persistentVolumes)
        this.#queue.add('all')
    })
  }

  /** While paused pods stay Pending without a condition, as before a busy scheduler looks at them. */
  pause(paused: boolean): void {
    this.#paused = paused
    this.#queue.add('all')
  }

  close(): void {
    this.#stop()
    this.#queue.close()
  }

  #sync(): void {
    if (this.#paused) return
    for (const pod of this.#store.list<Pod>(pods)) {
      if (!pod.spec.nodeName && !pod.metadata.deletionTimestamp && pod.status.phase === 'Pending') this.#schedule(pod)
    }
  }

  #schedule(pod: Pod): void {
    const all = this.#store.list<Node>(nodes)
    const claimed = this.#claimObstacle(pod)
    const judged = all.map((node) => ({ node, obstacles: claimed ? [claimed] : this.#obstacles(pod, node) }))
    const fitting = judged.filter(({ obstacles }) => obstacles.length === 0).map(({ node }) => node)
    const best = fitting.sort((a, b) => this.#free(b, 'cpu') - this.#free(a, 'cpu'))[0]
    if (best) this.#assign(pod, best)
    else
      this.#refuse(
        pod,
        explain(
          all.length,
          judged.map(({ obstacles }) => obstacles),
          claimed,
        ),
      )
  }

  #assign(pod: Pod, node: Node): void {
    const name = node.metadata.name
    this.#store.modify<Pod>(pods, pod, (current) => {
      current.spec.nodeName = name
      current.status.conditions = setCondition(
        (current.status.conditions ?? []).filter((condition) => condition.type !== 'PodScheduled'),
        { type: 'PodScheduled', status: 'True', lastProbeTime: null },
      )
    })
    const { namespace } = pod.metadata
    const message = `Successfully assigned ${namespace}/${pod.metadata.name} to ${name}`
    this.#recorder.record(pod, { type: 'Normal', reason: 'Scheduled', message })
  }

  #refuse(pod: Pod, message: string): void {
    const known = pod.status.conditions?.find((condition) => condition.type === 'PodScheduled')
    if (known?.message === message) return
    this.#store.modify<Pod>(pods, pod, (current) => {
      current.status.conditions = setCondition(current.status.conditions ?? [], {
        type: 'PodScheduled',
        status: 'False',
        reason: 'Unschedulable',
        message,
        lastProbeTime: null,
      })
    })
    this.#recorder.record(pod, { type: 'Warning', reason: 'FailedScheduling', message })
  }

  #claimObstacle(pod: Pod): Obstacle | undefined {
    for (const { persistentVolumeClaim } of pod.spec.volumes ?? []) {
      if (!persistentVolumeClaim) continue
      const name = persistentVolumeClaim.claimName
      const claim = this.#store.get<PersistentVolumeClaim>(persistentVolumeClaims, pod.metadata.namespace, name)
      const reason = claimReason(name, claim)
      if (reason) return { reason, hopeless: true }
    }
    return undefined
  }

  #obstacles({ spec }: Pod, node: Node): Obstacle[] {
    if (node.spec.unschedulable) return [{ reason: 'node(s) were unschedulable', hopeless: true }]
    const taint = node.spec.taints?.find(
      (candidate) =>
        candidate.effect !== 'PreferNoSchedule' &&
        !spec.tolerations?.some((toleration) => tolerates(toleration, candidate)),
    )
    if (taint) return [{ reason: `node(s) had untolerated taint {${taint.key}: ${taint.value ?? ''}}`, hopeless: true }]
    const labels = node.metadata.labels ?? {}
    if (Object.entries(spec.nodeSelector ?? {}).some(([key, value]) => labels[key] !== value)) {
      return [{ reason: "node(s) didn't match Pod's node affinity/selector", hopeless: true }]
    }
    return [...requestsOf(spec)]
      .filter(([name, amount]) => amount > 0 && amount > this.#free(node, name))
      .map(([name]) => ({ reason: name === 'pods' ? 'Too many pods' : `Insufficient ${name}`, hopeless: false }))
  }

  #free(node: Node, resource: string): number {
    const used = this.#store
      .list<Pod>(pods)
      .filter(
        ({ spec, status }) =>
          spec.nodeName === node.metadata.name && status.phase !== 'Succeeded' && status.phase !== 'Failed',
      )
      .reduce((sum, { spec }) => sum + (requestsOf(spec).get(resource) ?? 0), 0)
    return quantity(node.status.allocatable[resource]) - used
  }
}

function claimReason(name: string, claim: PersistentVolumeClaim | undefined): string | undefined {
  if (!claim) return `persistentvolumeclaim "${name}" not found`
  if (claim.status.phase === 'Lost')
    return `persistentvolumeclaim "${name}" bound to non-existent persistentvolume "${claim.spec.volumeName}"`
  if (claim.metadata.deletionTimestamp) return `persistentvolumeclaim "${name}" is being deleted`
  return claim.status.phase === 'Bound' ? undefined : 'pod has unbound immediate PersistentVolumeClaims'
}

export function tolerates(toleration: Toleration, taint: Taint): boolean {
  if (toleration.effect && toleration.effect !== taint.effect) return false
  if (toleration.operator === 'Exists') return !toleration.key || toleration.key === taint.key
  return toleration.key === taint.key && (toleration.value ?? '') === (taint.value ?? '')
}

/** The real scheduler's sentence: reasons with the number of nodes, sorted as text, then what preemption could do. */
function explain(count: number, perNode: Obstacle[][], claimed: Obstacle | undefined): string {
  const head = `0/${count} nodes are available: `
  const hopeless = perNode.filter((obstacles) => obstacles.some((obstacle) => obstacle.hopeless)).length
  const preemption = [
    ...(count - hopeless > 0 ? [`${count - hopeless} No preemption victims found for incoming pod`] : []),
    ...(hopeless > 0 ? [`${hopeless} Preemption is not helpful for scheduling`] : []),
  ]
  const tail = ` preemption: ${head}${preemption.sort().join(', ')}.`
  if (count === 0) return 'no nodes available to schedule pods'
  if (claimed) return `${head}${claimed.reason}.${tail}`
  const tally = new Map<string, number>()
  for (const { reason } of perNode.flat()) tally.set(reason, (tally.get(reason) ?? 0) + 1)
  const reasons = [...tally].map(([reason, nodes]) => `${nodes} ${reason}`).sort()
  return `${head}${reasons.join(', ')}.${tail}`
}
