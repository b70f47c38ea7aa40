import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect } from 'vitest'
import { python } from '../local/cluster.mts'
import { type Outcome, Running } from '../local/command.mts'
import type { Job, Pod } from '../local/kube/objects.mts'
import { type Kube, startKube } from '../local/kube.mts'

// What an unmodified kubectl sees of the Kubernetes stand-in (kube-*.test.mts). The words that those tests expect were
// seen on a real 1.33 API server.

export const namespace = 'team'
/** A folder for what a test needs. */
export let dir: string
export let kube: Kube
let env: Record<string, string>
let known = 0

/** Starts a stand-in for the tests of a file, which must not ask it anything that it does not know. */
export function useKube(): void {
  beforeAll(async () => {
    dir = await mkdtemp(path.join(os.tmpdir(), 'kube-'))
    kube = await startKube({ dir, python, namespaces: [namespace], backoffSeconds: 0.2 })
    env = { PATH: process.env.PATH ?? '', HOME: dir, KUBECONFIG: kube.kubeconfig }
  })

  afterAll(async () => {
    await kube.close()
    await rm(dir, { recursive: true, force: true })
    expect(unknownCalls()).toEqual([])
  })
}

/** What was asked and not known since the last time, for a test that does so on purpose. */
export function unknownCalls(): string[] {
  const calls = kube.unknownCalls.slice(known).map(({ method, path }) => `${method} ${path.split('?')[0]}`)
  known = kube.unknownCalls.length
  return calls
}

export function start(args: readonly string[], input?: unknown): Running {
  const all = ['--namespace', namespace, ...args]
  const text = typeof input === 'string' ? input : JSON.stringify(input)
  return new Running('kubectl', all, { env, ...(input !== undefined && { input: text }) })
}

export const kubectl = (args: readonly string[], input?: unknown): Promise<Outcome> => start(args, input).outcome

/** The stdout of a kubectl that must succeed. */
export async function ok(args: readonly string[], input?: unknown): Promise<string> {
  const { code, stdout, stderr } = await kubectl(args, input)
  expect(stderr.replace(/^Warning: .*\n/gm, '')).toBe('')
  expect(code).toBe(0)
  return stdout
}

/** An object or a list straight from the API: what is looked at needs no kubectl, which takes a tenth of a second to start. */
export async function read<T>(kind: string, name = '', query: Record<string, string> = {}): Promise<T> {
  const path = PATHS[kind] ?? `/api/v1/namespaces/${namespace}/${kind}`
  const response = await fetch(`${kube.url}${path}${name && `/${name}`}?${new URLSearchParams(query)}`)
  expect(response.status).toBe(200)
  return (await response.json()) as T
}

const PATHS: Record<string, string> = {
  jobs: `/apis/batch/v1/namespaces/${namespace}/jobs`,
  nodes: '/api/v1/nodes',
  persistentvolumes: '/api/v1/persistentvolumes',
}

export const podsOf = async (job: string) =>
  (await read<{ items: Pod[] }>('pods', '', { labelSelector: `job-name=${job}` })).items

interface Shape {
  spec?: Record<string, unknown>
  pod?: Record<string, unknown>
  container?: Record<string, unknown>
}

export function job(name: string, script: string, { spec, pod, container }: Shape = {}) {
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name, namespace },
    spec: {
      backoffLimit: 0,
      template: {
        metadata: { labels: { app: 'test' } },
        spec: {
          restartPolicy: 'Never',
          terminationGracePeriodSeconds: 5,
          containers: [
            {
              name: 'mover',
              image: 'python:3.11-slim',
              command: ['python', '-u', '-c', script],
              env: [{ name: 'LOG', value: '/dev/termination-log' }],
              ...container,
            },
          ],
          ...pod,
        },
      },
      ...spec,
    },
  }
}

export const claim = (name: string, volumeName?: string, storage = '1Gi') => ({
  apiVersion: 'v1',
  kind: 'PersistentVolumeClaim',
  metadata: { name, namespace },
  spec: {
    accessModes: ['ReadWriteMany'],
    storageClassName: 'nfs-static',
    resources: { requests: { storage } },
    ...(volumeName && { volumeName }),
  },
})

export const volume = (name: string, spec: Record<string, unknown> = { nfs: { server: 'nfs', path: '/export' } }) => ({
  apiVersion: 'v1',
  kind: 'PersistentVolume',
  metadata: { name },
  spec: {
    capacity: { storage: '1Gi' },
    accessModes: ['ReadWriteMany'],
    storageClassName: 'nfs-static',
    persistentVolumeReclaimPolicy: 'Retain',
    ...spec,
  },
})

export const mounting = (claimName: string, mountPath = '/models') => ({
  pod: { volumes: [{ name: 'models', persistentVolumeClaim: { claimName } }] },
  container: {
    volumeMounts: [{ name: 'models', mountPath }],
    env: [{ name: 'MODELS_DIR', value: mountPath }],
  },
})

export const until = (condition: string, object: string) => ok(['wait', `--for=${condition}`, object, '--timeout=20s'])
export const finished = (name: string, type = 'complete') => until(`condition=${type}`, `job/${name}`)
export const conditions = async (name: string) =>
  ((await read<Job>('jobs', name)).status.conditions ?? []).map(({ type, reason }) => `${type} ${reason}`)
export const eventsOf = async (name: string) => {
  const query = { fieldSelector: `involvedObject.name=${name}` }
  return (await read<{ items: { reason: string; message: string }[] }>('events', '', query)).items
}

/** Waits until the Job's one pod runs, and gives its name. */
export async function ready(name: string): Promise<string> {
  await ok(['wait', '--for=condition=Ready', 'pod', '-l', `job-name=${name}`, '--timeout=20s'])
  return (await podsOf(name))[0]?.metadata.name ?? ''
}

/** Waits until the container of the Job's pod waits for that reason, and gives what is said of it. */
export async function waiting(name: string, reason: string): Promise<string | undefined> {
  const path = '{.status.containerStatuses[0].state.waiting.reason}'
  await ok(['wait', `--for=jsonpath=${path}=${reason}`, 'pod', '-l', `job-name=${name}`, '--timeout=20s'])
  return (await podsOf(name))[0]?.status.containerStatuses?.[0]?.state.waiting?.message
}

/** Waits until that event of the Job's pod is there, and gives its message. */
export async function podEvent(name: string, reason: string): Promise<string | undefined> {
  const [pod] = await podsOf(name)
  const find = async () => (await eventsOf(pod?.metadata.name ?? '')).find((event) => event.reason === reason)
  await expect.poll(find).toBeDefined()
  return (await find())?.message
}

export const holdUntilKilled = 'import time; print("up"); time.sleep(600)'
