import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Access, type Denial } from './kube/access.mts'
import { applyDefaults } from './kube/defaults.mts'
import { Faults } from './kube/faults.mts'
import { GarbageCollector } from './kube/garbage-collector.mts'
import { JobController } from './kube/job-controller.mts'
import { namespaces, nodes } from './kube/kinds.mts'
import { kubeconfig } from './kube/kubeconfig.mts'
import { Kubelet } from './kube/kubelet.mts'
import { defaultNodes, makeNode, type NodeShape } from './kube/nodes.mts'
import type { KubeObject } from './kube/objects.mts'
import { Recorder } from './kube/recorder.mts'
import { Resources } from './kube/resources.mts'
import { Scheduler } from './kube/scheduler.mts'
import { ApiServer, type UnknownCall } from './kube/server.mts'
import { Store } from './kube/store.mts'
import { VolumeController } from './kube/volume-controller.mts'

export interface KubeOptions {
  /** An existing folder for everything: the kubeconfig, pods' folders, NFS volumes. */
  dir: string
  /** A folder with `python` and `pip`, put first in the pods' PATH: what the image's Python is here. */
  python: string
  /** The context's name in the kubeconfig. */
  context?: string
  /** Namespaces to make beside `default`. */
  namespaces?: string[]
  /** The delay before a failed pod's first retry; 10 in Kubernetes. It doubles with each further failure. */
  backoffSeconds?: number
  /** The nodes by name; two workers and a tainted GPU node by default. */
  nodes?: Record<string, NodeShape>
}

/** An embedded Kubernetes, and the ways for a test to make it misbehave. */
export interface Kube {
  /** The path of a kubeconfig with one context. */
  kubeconfig: string
  context: string
  url: string
  /** Requests that the stand-in could not answer as the real API would. A test asserts that this is empty. */
  unknownCalls: readonly UnknownCall[]
  /** The local folder behind the NFS volume of this name; a hostPath volume is its own path. */
  nfsFolder(name: string): string
  faults: Faults
  /** Refuses these from now on, with 403 and in access reviews; without arguments everything is allowed again. */
  deny(...denials: Denial[]): void
  /** Refuses connections and cuts open ones; pods and controllers go on. */
  stopApi(): Promise<void>
  /** Answers again, on the same port. */
  startApi(): Promise<void>
  /** Ends every pod's processes and the server, and waits until they have ended. */
  close(): Promise<void>
}

/**
 * Starts as much of Kubernetes as an unmodified kubectl needs for our kinds, within this process: API server, Job and
 * volume controllers, garbage collector, scheduler and kubelet. Containers are local processes with the manifest's own
 * command and environment. What differs from a cluster:
 *
 * - There is no file system of its own: an argument or variable that is a mounted path, or lies beneath one, becomes the
 *   local path, and in logs and termination messages the local path becomes the mounted one again. Paths inside longer
 *   texts (`sh -c 'ls /models'`) stay as they are.
 * - `readOnly` mounts and `securityContext` are taken but not enforced; nor are limits of memory, CPU and disk.
 * - The first process dies of a SIGTERM it does not handle; in a container it would survive it until the SIGKILL.
 * - Changes of a ConfigMap do not reach pods that run. Fields have no owners, so server-side apply never conflicts.
 */
export async function startKube(options: KubeOptions): Promise<Kube> {
  const { dir, python, context = 'do-nyc2-gtc-demo', backoffSeconds = 10 } = options
  const store = new Store()
  const add = (kind: typeof nodes, object: unknown) => {
    applyDefaults(kind, object as KubeObject)
    store.create(kind, object as KubeObject)
  }
  for (const name of ['default', ...(options.namespaces ?? [])]) {
    add(namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  }
  for (const [index, [name, shape]] of Object.entries(options.nodes ?? defaultNodes).entries()) {
    add(nodes, makeNode(name, index, shape))
  }

  const nfsFolder = (name: string) => join(dir, 'volumes', name)
  const controllers = [
    new GarbageCollector(store),
    new VolumeController(store, new Recorder(store, 'persistentvolume-controller')),
  ]
  const jobController = new JobController(store, new Recorder(store, 'job-controller'), backoffSeconds)
  const scheduler = new Scheduler(store, new Recorder(store, 'default-scheduler'))
  const kubelet = new Kubelet(store, new Recorder(store, 'kubelet'), { dir, python, nfsFolder })
  const access = new Access()
  const resources = new Resources(store)
  const server = new ApiServer(store, resources, access, kubelet)
  await server.start()

  const config = join(dir, 'kubeconfig')
  await mkdir(dir, { recursive: true })
  await writeFile(config, kubeconfig(server.url, context))
  return {
    kubeconfig: config,
    context,
    url: server.url,
    unknownCalls: server.unknownCalls,
    nfsFolder,
    faults: new Faults(store, { kubelet, scheduler, jobController, resources }),
    deny: (...denials) => access.deny(...denials),
    stopApi: () => server.stop(),
    startApi: () => server.start(),
    close: async () => {
      await server.stop()
      for (const part of [jobController, scheduler, ...controllers]) part.close()
      await kubelet.close()
    },
  }
}
