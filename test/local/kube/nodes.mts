import { version } from './discovery.mts'
import { type Node, type Taint, timestamp } from './objects.mts'

/** What a node offers to pods, and the taints that keep them off. */
export interface NodeShape {
  labels?: Record<string, string>
  taints?: Taint[]
  allocatable: Record<string, string>
}

const pods = '110'

/** An s-2vcpu-4gb node of DOKS, as such a node reports itself. */
const worker: NodeShape = {
  labels: { 'doks.digitalocean.com/node-pool': 'pool-s2vcpu4gb', 'node.kubernetes.io/instance-type': 's-2vcpu-4gb' },
  allocatable: { cpu: '1900m', memory: '3110Mi', 'ephemeral-storage': '74419828Ki', pods },
}

/** A GPU node: room for anything, and the taint that keeps pods without a GPU off. */
const gpu: NodeShape = {
  labels: { 'doks.digitalocean.com/node-pool': 'gpu-h100', 'doks.digitalocean.com/gpu-brand': 'nvidia' },
  taints: [{ key: 'nvidia.com/gpu', effect: 'NoSchedule' }],
  allocatable: { cpu: '8', memory: '16Gi', 'ephemeral-storage': '74419828Ki', pods, 'nvidia.com/gpu': '1' },
}

/** The nodes of the demonstration cluster: two for staging, one for serving. */
export const defaultNodes: Record<string, NodeShape> = {
  'pool-s2vcpu4gb-1': worker,
  'pool-s2vcpu4gb-2': worker,
  'gpu-h100-1': gpu,
}

/** A ready node; `index` gives it an address of its own. */
export function makeNode(
  name: string,
  index: number,
  { labels, taints, allocatable }: NodeShape,
): Omit<Node, 'metadata'> & {
  metadata: Partial<Node['metadata']>
} {
  const now = timestamp()
  const condition = (type: string, status: 'True' | 'False', reason: string, message: string) => ({
    type,
    status,
    reason,
    message,
    lastHeartbeatTime: now,
    lastTransitionTime: now,
  })
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name,
      labels: {
        'kubernetes.io/arch': 'amd64',
        'kubernetes.io/hostname': name,
        'kubernetes.io/os': 'linux',
        'topology.kubernetes.io/region': 'nyc2',
        ...labels,
      },
    },
    spec: taints ? { taints } : {},
    status: {
      addresses: [
        { type: 'InternalIP', address: `10.244.${index}.1` },
        { type: 'Hostname', address: name },
      ],
      allocatable,
      capacity: allocatable,
      conditions: [
        condition('MemoryPressure', 'False', 'KubeletHasSufficientMemory', 'kubelet has sufficient memory available'),
        condition('DiskPressure', 'False', 'KubeletHasNoDiskPressure', 'kubelet has no disk pressure'),
        condition('PIDPressure', 'False', 'KubeletHasSufficientPID', 'kubelet has sufficient PID available'),
        condition('Ready', 'True', 'KubeletReady', 'kubelet is posting ready status'),
      ],
      nodeInfo: { kubeletVersion: version.gitVersion, architecture: 'amd64', operatingSystem: 'linux' },
    },
  }
}
