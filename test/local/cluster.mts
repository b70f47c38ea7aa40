import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { Running } from './command.mts'
import { type Kube, type KubeOptions, startKube } from './kube.mts'

/** A Kubernetes for one test file: the embedded stand-in, or the one that the developer's kubeconfig names. */
export interface Cluster {
  kubeconfig: string
  context: string
  /** The address at which pods reach servers of this process. */
  host: string
  /** The embedded one. */
  kube?: Kube
  close(): Promise<void>
}

/** The bin folder of the virtual environment that `make .venv` makes. */
export const python = path.resolve(import.meta.dirname, '../../.venv/bin')

/** Whether the suite runs on a real cluster (`make e2e`). */
export const real = process.env.E2E === '1'

/** What may be chosen of the embedded one. */
export type ClusterOptions = Pick<KubeOptions, 'context' | 'backoffSeconds'>

/** Opens the real cluster under E2E=1, starts an embedded one otherwise. */
export function openCluster(dir: string, options: ClusterOptions): Promise<Cluster> {
  return real ? openReal(dir) : openEmbedded(dir, options)
}

async function openEmbedded(
  parent: string,
  { context = 'stand-in', backoffSeconds = 10 }: ClusterOptions,
): Promise<Cluster> {
  const dir = path.join(parent, 'kube')
  await mkdir(dir)
  const kube = await startKube({ dir, python, context, backoffSeconds })
  const close = async () => {
    await kube.close()
    if (kube.unknownCalls.length > 0) throw new Error(`unknown to the stand-in: ${JSON.stringify(kube.unknownCalls)}`)
  }
  return { kubeconfig: kube.kubeconfig, context: kube.context, host: '127.0.0.1', kube, close }
}

async function openReal(home: string): Promise<Cluster> {
  const { KUBECONFIG: kubeconfig, KUBE_CONTEXT, E2E_HOST_IP: host, PATH = '' } = process.env
  if (!kubeconfig) throw new Error('set KUBECONFIG to the kubeconfig of a cluster that tests may use')
  if (!host) throw new Error('set E2E_HOST_IP to the address at which pods of that cluster reach this machine')
  const asked = new Running('kubectl', ['config', 'current-context'], {
    env: { PATH, HOME: home, KUBECONFIG: kubeconfig },
  })
  const context = KUBE_CONTEXT || (await asked.outcome).stdout.trim()
  return { kubeconfig, context, host, close: async () => {} }
}
