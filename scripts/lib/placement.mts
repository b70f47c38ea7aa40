import type { JobSpec, Node, Taint, Toleration } from './objects.mts'
import { parseQuantity } from './quantity.mts'

type PodSpec = JobSpec['template']['spec']

/**
 * Pure: why none of the nodes could ever take the pod, be it empty; undefined where one could.
 *
 * Taints that Kubernetes itself sets (not ready, cordoned, short of disk) are not looked at: they pass.
 */
export function placementProblem(nodes: readonly Node[], pod: PodSpec): string | undefined {
  const requests = requestsOf(pod)
  const asked = describe(requests)
  if (nodes.length === 0) return `it asks for ${asked}, and the cluster has no node at all`
  const closed: string[] = []
  const open: Node[] = []
  for (const node of nodes) {
    const why = closedBecause(node, pod)
    if (why) closed.push(`${node.metadata.name} ${why}`)
    else open.push(node)
  }
  const lacking = open.map((node) => ({ node, lacks: lacks(node, requests) }))
  if (lacking.some(({ lacks }) => lacks.length === 0)) return undefined
  // What most of them lack is what to say; the largest in it is the nearest miss.
  const [closest] = lacking.sort((a, b) => a.lacks.length - b.lacks.length || compare(b.node, a.node, a.lacks))
  const nearest = closest
    ? [`the largest that would take it, ${closest.node.metadata.name}, has ${describe(offer(closest.node, requests))}`]
    : []
  const SHOWN = 3
  const more = closed.length > SHOWN ? [`and ${closed.length - SHOWN} more nodes`] : []
  return [`it asks for ${asked}`, ...nearest, ...closed.slice(0, SHOWN), ...more].join('; ')
}

function requestsOf({ containers }: PodSpec): Record<string, string> {
  return { ...containers[0]?.resources.limits, ...containers[0]?.resources.requests }
}

function closedBecause(node: Node, { tolerations = [], nodeSelector = {} }: PodSpec): string | undefined {
  const labels = node.metadata.labels ?? {}
  const unmatched = Object.entries(nodeSelector).find(([name, value]) => labels[name] !== value)
  if (unmatched) return `lacks the label ${unmatched.join('=')}`
  const taint = node.spec.taints?.find(
    (one) =>
      one.effect !== 'PreferNoSchedule' &&
      !one.key.startsWith('node.kubernetes.io/') &&
      !tolerations.some((toleration) => tolerates(toleration, one)),
  )
  return taint && `has the taint ${taint.key}${taint.value ? `=${taint.value}` : ''}, which our pods do not tolerate`
}

function tolerates({ key, operator = 'Equal', value = '', effect }: Toleration, taint: Taint): boolean {
  if (effect && effect !== taint.effect) return false
  if (operator === 'Exists') return !key || key === taint.key
  return key === taint.key && value === (taint.value ?? '')
}

function lacks({ status }: Node, requests: Record<string, string>): string[] {
  return Object.entries(requests)
    .filter(([name, asked]) => amount(asked) > amount(status.allocatable?.[name]))
    .map(([name]) => name)
}

function offer({ status }: Node, requests: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.keys(requests).map((name) => [name, status.allocatable?.[name] ?? '0']))
}

function compare(a: Node, b: Node, [resource = '']: readonly string[]): number {
  return amount(a.status.allocatable?.[resource]) - amount(b.status.allocatable?.[resource])
}

function amount(text: string | undefined): number {
  return parseQuantity(text ?? '') ?? 0
}

function describe(resources: Record<string, string>): string {
  return Object.entries(resources)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')
}
