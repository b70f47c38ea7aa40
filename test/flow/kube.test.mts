import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { python, real } from '../local/cluster.mts'
import { type Outcome, Running } from '../local/command.mts'
import type { Job, Node, PersistentVolume, PersistentVolumeClaim, Pod } from '../local/kube/objects.mts'
import { type Kube, startKube } from '../local/kube.mts'

// What an unmodified kubectl sees of the stand-in. The expected words were seen on a real 1.33 API server.

const namespace = 'team'
let dir: string
let kube: Kube
let env: Record<string, string>

beforeAll(async () => {
  if (real) return
  dir = await mkdtemp(path.join(os.tmpdir(), 'kube-'))
  kube = await startKube({ dir, python, namespaces: [namespace], backoffSeconds: 0.2 })
  env = { PATH: process.env.PATH ?? '', HOME: dir, KUBECONFIG: kube.kubeconfig }
})

afterAll(async () => {
  if (real) return
  await kube.close()
  await rm(dir, { recursive: true, force: true })
})

function start(args: readonly string[], input?: unknown): Running {
  const all = ['--namespace', namespace, ...args]
  const text = typeof input === 'string' ? input : JSON.stringify(input)
  return new Running('kubectl', all, { env, ...(input !== undefined && { input: text }) })
}

const kubectl = (args: readonly string[], input?: unknown): Promise<Outcome> => start(args, input).outcome

/** The stdout of a kubectl that must succeed. */
async function ok(args: readonly string[], input?: unknown): Promise<string> {
  const { code, stdout, stderr } = await kubectl(args, input)
  expect(stderr.replace(/^Warning: .*\n/gm, '')).toBe('')
  expect(code).toBe(0)
  return stdout
}

/** An object or a list straight from the API: what is looked at needs no kubectl, which takes a tenth of a second to start. */
async function read<T>(kind: string, name = '', query: Record<string, string> = {}): Promise<T> {
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

const podsOf = async (job: string) =>
  (await read<{ items: Pod[] }>('pods', '', { labelSelector: `job-name=${job}` })).items

interface Shape {
  spec?: Record<string, unknown>
  pod?: Record<string, unknown>
  container?: Record<string, unknown>
}

function job(name: string, script: string, { spec, pod, container }: Shape = {}) {
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

const claim = (name: string, volumeName?: string, storage = '1Gi') => ({
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

const volume = (name: string, spec: Record<string, unknown> = { nfs: { server: 'nfs', path: '/export' } }) => ({
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

const mounting = (claimName: string, mountPath = '/models') => ({
  pod: { volumes: [{ name: 'models', persistentVolumeClaim: { claimName } }] },
  container: {
    volumeMounts: [{ name: 'models', mountPath }],
    env: [{ name: 'MODELS_DIR', value: mountPath }],
  },
})

const until = (condition: string, object: string) => ok(['wait', `--for=${condition}`, object, '--timeout=20s'])
const finished = (name: string, type = 'complete') => until(`condition=${type}`, `job/${name}`)
const conditions = async (name: string) =>
  ((await read<Job>('jobs', name)).status.conditions ?? []).map(({ type, reason }) => `${type} ${reason}`)
const eventsOf = async (name: string) => {
  const query = { fieldSelector: `involvedObject.name=${name}` }
  return (await read<{ items: { reason: string; message: string }[] }>('events', '', query)).items
}

/** Waits until the Job's one pod runs, and gives its name. */
async function ready(name: string): Promise<string> {
  await ok(['wait', '--for=condition=Ready', 'pod', '-l', `job-name=${name}`, '--timeout=20s'])
  return (await podsOf(name))[0]?.metadata.name ?? ''
}

/** Waits until the container of the Job's pod waits for that reason, and gives what is said of it. */
async function waiting(name: string, reason: string): Promise<string | undefined> {
  const path = '{.status.containerStatuses[0].state.waiting.reason}'
  await ok(['wait', `--for=jsonpath=${path}=${reason}`, 'pod', '-l', `job-name=${name}`, '--timeout=20s'])
  return (await podsOf(name))[0]?.status.containerStatuses?.[0]?.state.waiting?.message
}

/** Waits until that event of the Job's pod is there, and gives its message. */
async function podEvent(name: string, reason: string): Promise<string | undefined> {
  const [pod] = await podsOf(name)
  const find = async () => (await eventsOf(pod?.metadata.name ?? '')).find((event) => event.reason === reason)
  await expect.poll(find).toBeDefined()
  return (await find())?.message
}

const holdUntilKilled = 'import time; print("up"); time.sleep(600)'

describe.skipIf(real)('the Kubernetes stand-in', () => {
  describe('objects', () => {
    test('are applied on the client side, changed, and left alone when nothing differs', async () => {
      const map = (data: Record<string, string>) => ({
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: 'applied', namespace },
        data,
      })
      expect(await ok(['apply', '-f', '-'], map({ a: '1', b: '2' }))).toBe('configmap/applied created\n')
      expect(await ok(['apply', '-f', '-'], map({ a: '1', b: '2' }))).toBe('configmap/applied unchanged\n')
      expect(await ok(['apply', '-f', '-'], map({ a: '3' }))).toBe('configmap/applied configured\n')
      expect(await ok(['get', 'cm', 'applied', '-o', 'jsonpath={.data}'])).toBe('{"a":"3"}')
    })

    test('are applied on the server side, with removal of what is no longer named', async () => {
      const map = (data: Record<string, string>) => ({
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: 'served', namespace },
        data,
      })
      await ok(['apply', '--server-side', '-f', '-'], map({ a: '1', b: '2' }))
      expect(await ok(['apply', '--server-side', '-f', '-'], map({ a: '3' }))).toBe(
        'configmap/served serverside-applied\n',
      )
      expect(await ok(['get', 'cm', 'served', '-o', 'jsonpath={.data}'])).toBe('{"a":"3"}')
    })

    test('are made from the command line, which sends protobuf', async () => {
      await ok(['create', 'secret', 'generic', 'keys', '--from-literal=TOKEN=t', '--from-literal=EMPTY='])
      expect(await ok(['get', 'secret', 'keys', '-o', 'jsonpath={.type} {.data.TOKEN} {.data.EMPTY}'])).toBe(
        'Opaque dA== ',
      )
      await ok(['create', 'namespace', 'another'])
      await ok(['delete', 'namespace', 'another'])
      expect((await kubectl(['get', 'namespace', 'another'])).stderr).toContain('namespaces "another" not found')
    })

    test('of a kustomization are applied, a ConfigMap of files', async () => {
      const folder = path.join(dir, 'kustomization')
      await mkdir(folder)
      await writeFile(path.join(folder, 'mover.py'), 'print(1)\n')
      const lines = [
        'configMapGenerator:',
        '- name: files',
        '  files: [mover.py]',
        'generatorOptions: {disableNameSuffixHash: true}',
      ]
      await writeFile(path.join(folder, 'kustomization.yaml'), lines.join('\n'))
      expect(await ok(['apply', '-k', folder])).toBe('configmap/files created\n')
      expect((await read<{ data: unknown }>('configmaps', 'files')).data).toEqual({ 'mover.py': 'print(1)\n' })
    })

    test('that are immutable stay so', async () => {
      await ok(['create', '-f', '-'], {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: 'sealed', namespace },
        immutable: true,
        data: { a: '1' },
      })
      const { code, stderr } = await kubectl(['patch', 'cm', 'sealed', '--type', 'merge', '-p', '{"data":{"a":"2"}}'])
      expect([code, stderr]).toEqual([
        1,
        'The ConfigMap "sealed" is invalid: data: Forbidden: field is immutable when `immutable` is set\n',
      ])
    })

    test('that are absent are NotFound, and nothing at all when asked so', async () => {
      const { code, stderr } = await kubectl(['get', 'job', 'absent', '-o', 'json'])
      expect([code, stderr]).toEqual([1, 'Error from server (NotFound): jobs.batch "absent" not found\n'])
      expect(await ok(['get', 'job', 'absent', '--ignore-not-found', '-o', 'json'])).toBe('')
      expect(await ok(['delete', 'job', 'absent', '--ignore-not-found'])).toBe('')
    })

    test('are changed by JSON patch when its test holds, and only then', async () => {
      await ok(
        ['apply', '-f', '-'],
        volume('patched', { claimRef: { namespace, name: 'gone', uid: 'old' }, nfs: { server: 's', path: '/p' } }),
      )
      await until('jsonpath={.status.phase}=Released', 'pv/patched')
      const version = await ok(['get', 'pv', 'patched', '-o', 'jsonpath={.metadata.resourceVersion}'])
      const patch = (value: string) =>
        kubectl([
          'patch',
          'pv',
          'patched',
          '--type',
          'json',
          '-p',
          JSON.stringify([
            { op: 'test', path: '/metadata/resourceVersion', value },
            { op: 'remove', path: '/spec/claimRef' },
          ]),
        ])
      expect(await patch('1')).toMatchObject({
        code: 1,
        stderr: 'The request is invalid: the server rejected our request due to an error in our request\n',
      })
      expect(await patch(version)).toMatchObject({ code: 0 })
      await until('jsonpath={.status.phase}=Available', 'pv/patched')
      await ok(['delete', 'pv', 'patched'])
    })

    test('conflict when the version they were read at is no longer theirs', async () => {
      await ok(['create', 'cm', 'contested', '--from-literal=a=1'])
      const old = await read<{ metadata: unknown }>('configmaps', 'contested')
      await ok(['annotate', 'cm', 'contested', 'seen=yes'])
      const { code, stderr } = await kubectl(['replace', '-f', '-'], old)
      expect(code).toBe(1)
      expect(stderr).toContain('Operation cannot be fulfilled on configmaps "contested": the object has been modified')
    })

    test('are told to watches as they change', async () => {
      const watch = start(['get', 'cm', '-w', '-l', 'watched=yes', '-o', 'jsonpath={.metadata.name}={.data.a};'])
      await ok(['apply', '-f', '-'], {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: 'seen', namespace, labels: { watched: 'yes' } },
        data: { a: '1' },
      })
      await watch.says(/seen=1;/, 'stdout')
      await ok(['patch', 'cm', 'seen', '-p', '{"data":{"a":"2"}}'])
      await watch.says(/seen=2;/, 'stdout')
      watch.signal('SIGTERM')
      await watch.outcome
    })

    test.each([
      [
        'A_b',
        { name: 'A_b' },
        'The Job "A_b" is invalid: metadata.name: Invalid value: "A_b": a lowercase RFC 1123 subdomain',
      ],
      ['a long name', { name: 'a'.repeat(64) }, '* spec.template.labels: Invalid value: "aaaa'],
    ])('refuse %s as a name', async (_, metadata, message) => {
      const { code, stderr } = await kubectl(['apply', '--dry-run=server', '-f', '-'], {
        ...job('x', ''),
        metadata: { ...metadata, namespace },
      })
      expect(code).toBe(1)
      expect(stderr).toContain(message)
    })

    test('refuse unknown fields and wrong types', async () => {
      const { stderr } = await kubectl(
        ['apply', '-f', '-'],
        job('x', '', { spec: { retries: 1 }, container: { imagge: 'y' } }),
      )
      expect(stderr).toContain(
        'strict decoding error: unknown field "spec.retries", unknown field "spec.template.spec.containers[0].imagge"',
      )
      expect((await kubectl(['apply', '-f', '-'], job('x', '', { spec: { backoffLimit: '3' } }))).stderr).toContain(
        'json: cannot unmarshal string into Go struct field JobSpec.spec.backoffLimit of type int32',
      )
    })

    test('refuse to be applied when the manifest outgrows the annotation that keeps it', async () => {
      const metadata = { name: 'big', namespace }
      const big = { apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { a: 'x'.repeat(262_144) } }
      const { stderr } = await kubectl(['apply', '-f', '-'], big)
      expect(stderr).toBe(
        'The ConfigMap "big" is invalid: metadata.annotations: Too long: may not be more than 262144 bytes\n',
      )
      await ok(['apply', '--server-side', '-f', '-'], big)
    })

    test('are only tried by a dry run on the server', async () => {
      expect(await ok(['apply', '--dry-run=server', '-f', '-'], job('tried', ''))).toBe(
        'job.batch/tried created (server dry run)\n',
      )
      expect(await ok(['get', 'job', 'tried', '--ignore-not-found'])).toBe('')
    })
  })

  describe('a Job', () => {
    test('runs its command to the end with logs, termination message and conditions', async () => {
      const script = 'import os; open(os.environ["LOG"], "w").write("done\\n"); print("one"); print("two")'
      await ok(['apply', '-f', '-'], job('good', script))
      await finished('good')
      const { status, metadata } = await read<Job>('jobs', 'good')
      expect(await conditions('good')).toEqual(['SuccessCriteriaMet CompletionsReached', 'Complete CompletionsReached'])
      expect(status).toMatchObject({ succeeded: 1, ready: 0, terminating: 0 })
      expect(status.active).toBeUndefined()
      const [pod] = await podsOf('good')
      expect(pod?.metadata.name).toMatch(/^good-[a-z0-9]{5}$/)
      expect(pod?.metadata.labels).toMatchObject({
        app: 'test',
        'batch.kubernetes.io/job-name': 'good',
        'batch.kubernetes.io/controller-uid': metadata.uid,
      })
      expect(pod?.status.phase).toBe('Succeeded')
      expect(pod?.status.containerStatuses?.[0]?.state.terminated).toMatchObject({
        exitCode: 0,
        reason: 'Completed',
        message: 'done\n',
      })
      expect(await ok(['logs', 'job/good'])).toBe('one\ntwo\n')
      expect(await ok(['logs', '-l', 'job-name=good', '--tail=1'])).toBe('two\n')
      const stamped = await ok(['logs', 'job/good', '--timestamps'])
      expect(stamped).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z one\n/)
      expect(await ok(['logs', 'job/good', '--since-time=2099-01-01T00:00:00Z'])).toBe('')
      expect((await eventsOf('good')).map(({ reason }) => reason).sort()).toEqual(['Completed', 'SuccessfulCreate'])
    })

    test('is retried after a backoff that doubles, then fails', async () => {
      await ok(['apply', '-f', '-'], job('bad', 'raise SystemExit(1)', { spec: { backoffLimit: 2 } }))
      await finished('bad', 'failed')
      expect(await conditions('bad')).toEqual(['FailureTarget BackoffLimitExceeded', 'Failed BackoffLimitExceeded'])
      expect((await read<Job>('jobs', 'bad')).status.failed).toBe(3)
      expect((await podsOf('bad')).map(({ status }) => status.phase)).toEqual(['Failed', 'Failed', 'Failed'])
    })

    test('ends at once by its podFailurePolicy', async () => {
      const rule = { action: 'FailJob', onExitCodes: { containerName: 'mover', operator: 'In', values: [64] } }
      const spec = { backoffLimit: 3, podFailurePolicy: { rules: [rule] } }
      await ok(['apply', '-f', '-'], job('permanent', 'raise SystemExit(64)', { spec }))
      await finished('permanent', 'failed')
      const { status } = await read<Job>('jobs', 'permanent')
      expect(status.failed).toBe(1)
      expect(status.conditions?.at(-1)).toMatchObject({ type: 'Failed', reason: 'PodFailurePolicy' })
      expect(status.conditions?.at(-1)?.message).toMatch(
        /^Container mover for pod team\/permanent-\w{5} failed with exit code 64 matching FailJob rule at index 0$/,
      )
    })

    test('is stopped by its deadline, its pod with SIGTERM', async () => {
      const lines = [
        'import signal, sys, time',
        'def stop(*_):',
        '  print("stopped"); sys.exit(143)',
        'signal.signal(15, stop)',
      ]
      const script = [...lines, 'print("up")', 'time.sleep(600)'].join('\n')
      await ok(['apply', '-f', '-'], job('late', script))
      await ready('late')
      const follow = start(['logs', '-f', 'job/late'])
      await follow.says(/up/, 'stdout')
      await ok(['patch', 'job', 'late', '-p', '{"spec":{"activeDeadlineSeconds":1}}'])
      await finished('late', 'failed')
      expect(await conditions('late')).toEqual(['FailureTarget DeadlineExceeded', 'Failed DeadlineExceeded'])
      expect((await follow.outcome).stdout).toBe('up\nstopped\n')
      expect(await podsOf('late')).toEqual([])
    })

    test('is removed with its pods when its TTL is over', async () => {
      await ok(['apply', '-f', '-'], job('brief', '', { spec: { ttlSecondsAfterFinished: 0 } }))
      await until('delete', 'job/brief')
      expect(await podsOf('brief')).toEqual([])
    })

    test('deleted in the foreground is gone only after its pods', async () => {
      await ok(['apply', '-f', '-'], job('front', holdUntilKilled))
      await ready('front')
      await ok(['delete', 'job', 'front', '--cascade=foreground'])
      expect(await podsOf('front')).toEqual([])
    })

    test('deleted by its uid is the one that was looked at', async () => {
      await ok(['apply', '-f', '-'], job('exact', holdUntilKilled))
      await ready('exact')
      const uid = await ok(['get', 'job', 'exact', '-o', 'jsonpath={.metadata.uid}'])
      const url = `/apis/batch/v1/namespaces/${namespace}/jobs/exact`
      const options = (wanted: string) => ({
        kind: 'DeleteOptions',
        apiVersion: 'v1',
        propagationPolicy: 'Foreground',
        preconditions: { uid: wanted },
      })
      const other = await kubectl(['delete', '--raw', url, '-f', '-'], options('somebody-else'))
      expect(other).toMatchObject({ code: 1 })
      expect(other.stderr).toContain(
        'Error from server (Conflict): Operation cannot be fulfilled on Job.batch "exact": the UID',
      )
      const marked = JSON.parse(await ok(['delete', '--raw', url, '-f', '-'], options(uid))) as Job
      expect(marked.metadata).toMatchObject({ uid, finalizers: ['foregroundDeletion'] })
      await until('delete', 'job/exact')
      expect(await podsOf('exact')).toEqual([])
    })

    test('cannot get another template', async () => {
      await ok(['apply', '-f', '-'], job('fixed', ''))
      const { code, stderr } = await kubectl(['apply', '-f', '-'], job('fixed', 'print(2)'))
      expect(code).toBe(1)
      expect(stderr).toMatch(
        /^The Job "fixed" is invalid: spec\.template: Invalid value: core\.PodTemplateSpec\{.*field is immutable\n$/,
      )
    })

    test('with indexes runs each of them once', async () => {
      const script = 'import os; print(os.environ["JOB_COMPLETION_INDEX"])'
      await ok(
        ['apply', '-f', '-'],
        job('shards', script, { spec: { completionMode: 'Indexed', completions: 3, parallelism: 2 } }),
      )
      await finished('shards')
      expect((await read<Job>('jobs', 'shards')).status).toMatchObject({ succeeded: 3, completedIndexes: '0-2' })
      expect((await ok(['logs', '-l', 'job-name=shards'])).trim().split('\n').sort()).toEqual(['0', '1', '2'])
    })
  })

  describe('a pod', () => {
    test('has the environment, the files and the paths of its manifest, and nothing else', async () => {
      await ok(['create', 'secret', 'generic', 'credentials', '--from-literal=TOKEN=s3cret'])
      await ok([
        'create',
        'cm',
        'program',
        '--from-literal=main.py=import sys, os, json; print(json.dumps([sys.argv, dict(os.environ)]))',
      ])
      const shape = {
        pod: { volumes: [{ name: 'program', configMap: { name: 'program' } }] },
        container: {
          command: ['python', '/program/main.py', '$(GREETING)', '$$(GREETING)'],
          env: [
            { name: 'NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
            {
              name: 'UID',
              valueFrom: { fieldRef: { fieldPath: "metadata.labels['batch.kubernetes.io/controller-uid']" } },
            },
            { name: 'ONE', valueFrom: { secretKeyRef: { name: 'credentials', key: 'TOKEN' } } },
            { name: 'GREETING', value: 'hello $(ONE)' },
            { name: 'FOLDER', value: '/program/sub' },
          ],
          envFrom: [{ secretRef: { name: 'credentials' } }, { secretRef: { name: 'none', optional: true } }],
          volumeMounts: [{ name: 'program', mountPath: '/program', readOnly: true }],
        },
      }
      await ok(['apply', '-f', '-'], job('fed', '', shape))
      await finished('fed')
      const [argv, seen] = JSON.parse(await ok(['logs', 'job/fed'])) as [string[], Record<string, string>]
      const [pod] = await podsOf('fed')
      const { uid } = (await read<Job>('jobs', 'fed')).metadata
      // Local paths are named in the log as the container would name them.
      expect(argv).toEqual(['/program/main.py', 'hello s3cret', '$(GREETING)'])
      expect(seen).toMatchObject({
        NAME: pod?.metadata.name,
        UID: uid,
        ONE: 's3cret',
        TOKEN: 's3cret',
        FOLDER: '/program/sub',
      })
      const own = ['FOLDER', 'GREETING', 'NAME', 'ONE', 'TOKEN', 'UID']
      const basic = ['HOME', 'HOSTNAME', 'LANG', 'PATH', 'TMPDIR']
      // sh and python add two of their own to any environment.
      expect(
        Object.keys(seen)
          .filter((name) => !['PWD', 'LC_CTYPE'].includes(name))
          .sort(),
      ).toEqual([...own, ...basic].sort())
      expect(seen.PATH?.split(':')[0]).toBe(python)
    })

    test('waits for a ConfigMap that is missing, and starts when it comes', async () => {
      const shape = {
        pod: { volumes: [{ name: 'v', configMap: { name: 'later' } }] },
        container: { volumeMounts: [{ name: 'v', mountPath: '/v' }] },
      }
      await ok(['apply', '-f', '-'], job('mountless', '', shape))
      expect(await waiting('mountless', 'ContainerCreating')).toBeUndefined()
      const message = 'MountVolume.SetUp failed for volume "v" : configmap "later" not found'
      expect(await podEvent('mountless', 'FailedMount')).toBe(message)
      expect((await kubectl(['logs', 'job/mountless'])).stderr).toContain('is waiting to start: ContainerCreating')
      await ok(['create', 'cm', 'later'])
      await finished('mountless')
    })

    test('waits for a Secret that is missing, and starts when it comes', async () => {
      await ok(
        ['apply', '-f', '-'],
        job('keyless', '', { container: { envFrom: [{ secretRef: { name: 'coming' } }] } }),
      )
      expect(await waiting('keyless', 'CreateContainerConfigError')).toBe('secret "coming" not found')
      await ok(['create', 'secret', 'generic', 'coming'])
      await finished('keyless')
    })

    test('waits for an image that cannot be pulled, and starts when it can', async () => {
      await ok(['apply', '-f', '-'], job('imageless', '', { container: { image: 'python:9.99' } }))
      const message = await waiting('imageless', 'ImagePullBackOff')
      expect(message).toMatch(/^Back-off pulling image "python:9\.99": ErrImagePull: .*not found$/)
      kube.faults.setImage('python:9.99', true)
      await finished('imageless')
    })

    test('that no node can take says why, and starts when one can', async () => {
      await ok(['apply', '-f', '-'], job('huge', '', { container: { resources: { requests: { memory: '4Gi' } } } }))
      const [pod] = await podsOf('huge')
      expect(pod?.status.conditions).toEqual([
        expect.objectContaining({
          type: 'PodScheduled',
          status: 'False',
          reason: 'Unschedulable',
          message:
            '0/3 nodes are available: 1 node(s) had untolerated taint {nvidia.com/gpu: }, 2 Insufficient memory. preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod.',
        }),
      ])
      kube.faults.editNode('pool-s2vcpu4gb-1', ({ status }) => {
        status.allocatable.memory = '8Gi'
      })
      await finished('huge')
    })

    test('whose command is not there fails to start', async () => {
      await ok(['apply', '-f', '-'], job('lost', '', { container: { command: ['/nope'] } }))
      await finished('lost', 'failed')
      const [pod] = await podsOf('lost')
      expect(pod?.status.containerStatuses?.[0]?.state.terminated).toMatchObject({
        exitCode: 128,
        reason: 'StartError',
      })
    })

    test('that does not stop is killed after its grace period', async () => {
      const script = 'import signal, time; signal.signal(15, signal.SIG_IGN); print("up"); time.sleep(600)'
      await ok(['apply', '-f', '-'], job('stubborn', script, { pod: { terminationGracePeriodSeconds: 1 } }))
      const follow = start(['logs', '-f', `pod/${await ready('stubborn')}`])
      await follow.says(/up/, 'stdout')
      const deletion = await kubectl(['delete', 'pod', '-l', 'job-name=stubborn'])
      expect(deletion.code).toBe(0)
      expect(deletion.seconds).toBeGreaterThan(0.9)
      await finished('stubborn', 'failed')
    })
  })

  describe('storage', () => {
    test('binds, keeps its data, is Released, and binds again when the claim on it is removed', async () => {
      await ok(['apply', '-f', '-'], volume('share'))
      await ok(['apply', '-f', '-'], claim('models', 'share'))
      await until('jsonpath={.status.phase}=Bound', 'pvc/models')
      const write =
        'import os; open(os.path.join(os.environ["MODELS_DIR"], "weights"), "w").write("w"); print(os.environ["MODELS_DIR"])'
      await ok(['apply', '-f', '-'], job('writer', write, mounting('models')))
      await finished('writer')
      expect(await ok(['logs', 'job/writer'])).toBe('/models\n')
      expect(await readFile(path.join(kube.nfsFolder('share'), 'weights'), 'utf8')).toBe('w')
      // A pod's object holds the claim, even when the pod has ended.
      await ok(['delete', 'pvc', 'models', '--wait=false'])
      const held = await read<PersistentVolumeClaim>('persistentvolumeclaims', 'models')
      expect([held.status.phase, typeof held.metadata.deletionTimestamp]).toEqual(['Bound', 'string'])
      await ok(['delete', 'job', 'writer', '--cascade=foreground'])
      await until('delete', 'pvc/models')
      await until('jsonpath={.status.phase}=Released', 'pv/share')
      const { spec } = await read<PersistentVolume>('persistentvolumes', 'share')
      expect(spec.claimRef).toMatchObject({ namespace, name: 'models', uid: held.metadata.uid })

      await ok(['apply', '-f', '-'], claim('models', 'share'))
      const [said] = await eventsOf('models')
      expect((await read<PersistentVolumeClaim>('persistentvolumeclaims', 'models')).status.phase).toBe('Pending')
      expect(said?.message).toBe('volume "share" already bound to a different claim.')
      await ok(['patch', 'pv', 'share', '--type', 'json', '-p', '[{"op":"remove","path":"/spec/claimRef"}]'])
      await until('jsonpath={.status.phase}=Bound', 'pvc/models')
    })

    test.each([
      ['too small', { capacity: { storage: '1Mi' } }, 'requested PV is too small'],
      ['of another class', { storageClassName: 'other' }, 'storageClassName does not match'],
      ['of another access mode', { accessModes: ['ReadWriteOnce'] }, 'incompatible accessMode'],
    ])('does not bind a volume that is %s', async (title, spec, why) => {
      const name = title.replaceAll(' ', '-')
      await ok(['apply', '-f', '-'], volume(name, { nfs: { server: 's', path: '/p' }, ...spec }))
      await ok(['apply', '-f', '-'], claim(name, name))
      expect((await read<PersistentVolumeClaim>('persistentvolumeclaims', name)).status.phase).toBe('Pending')
      expect((await eventsOf(name)).map(({ message }) => message)).toEqual([
        `Cannot bind to requested volume "${name}": ${why}`,
      ])
    })

    test('is Lost when its volume vanishes, and keeps pods from starting', async () => {
      await ok(['apply', '-f', '-'], volume('vanishing'))
      await ok(['apply', '-f', '-'], claim('orphan', 'vanishing'))
      await until('jsonpath={.status.phase}=Bound', 'pvc/orphan')
      await ok(['delete', 'pv', 'vanishing', '--wait=false'])
      await ok(['patch', 'pv', 'vanishing', '--type', 'merge', '-p', '{"metadata":{"finalizers":null}}'])
      await until('jsonpath={.status.phase}=Lost', 'pvc/orphan')
      await ok(['apply', '-f', '-'], job('unmounted', '', mounting('orphan')))
      const [pod] = await podsOf('unmounted')
      expect(pod?.status.conditions?.[0]?.message).toContain(
        'persistentvolumeclaim "orphan" bound to non-existent persistentvolume',
      )
    })

    test('that is not bound keeps pods from starting, until it is', async () => {
      await ok(['apply', '-f', '-'], job('early', '', mounting('awaited')))
      const message = async () => (await podsOf('early'))[0]?.status.conditions?.[0]?.message
      expect(await message()).toMatch(
        /^0\/3 nodes are available: persistentvolumeclaim "awaited" not found\. preemption: /,
      )
      await ok(['apply', '-f', '-'], claim('awaited', 'awaited'))
      expect(await message()).toMatch(/^0\/3 nodes are available: pod has unbound immediate PersistentVolumeClaims\. /)
      await ok(['apply', '-f', '-'], volume('awaited'))
      await finished('early')
    })
  })

  describe('trouble on purpose', () => {
    afterEach(() => kube.deny())

    test('the API goes away and comes back, pods go on', async () => {
      const gate = path.join(dir, 'gate')
      const script = `import os, time\nprint("up")\nwhile not os.path.exists(${JSON.stringify(gate)}): time.sleep(0.05)`
      await ok(['apply', '-f', '-'], job('through', script))
      await ready('through')
      const follow = start(['logs', '-f', 'job/through'])
      await follow.says(/up/, 'stdout')
      await kube.stopApi()
      expect(await follow.outcome).toMatchObject({ code: 1, stderr: expect.stringContaining('unexpected EOF') })
      expect((await kubectl(['get', 'job', 'through'])).stderr).toContain('was refused')
      await writeFile(gate, '')
      await kube.startApi()
      await finished('through')
    })

    test('permissions are denied, in answers and in reviews', async () => {
      kube.deny({ verbs: ['get', 'list', 'watch'], resources: ['persistentvolumes'] })
      const { code, stderr } = await kubectl(['get', 'pv', 'share'])
      expect([code, stderr]).toEqual([
        1,
        'Error from server (Forbidden): persistentvolumes "share" is forbidden: User "kubernetes-admin" cannot get resource "persistentvolumes" in API group "" at the cluster scope\n',
      ])
      const ask = { apiVersion: 'authorization.k8s.io/v1', kind: 'SelfSubjectRulesReview', spec: { namespace } }
      const review = JSON.parse(await ok(['create', '-o', 'json', '-f', '-'], ask)) as {
        status: { resourceRules: { verbs: string[]; resources: string[] }[] }
      }
      const rules = review.status.resourceRules.filter(({ resources }) => resources.includes('persistentvolumes'))
      expect(rules.map(({ verbs }) => verbs)).toEqual([['create', 'delete', 'patch', 'update']])
      expect((await kubectl(['auth', 'can-i', 'list', 'persistentvolumes'])).stdout).toBe('no\n')
      expect((await kubectl(['auth', 'can-i', 'create', 'jobs.batch'])).stdout).toBe('yes\n')
    })

    test('a container is OOMKilled', async () => {
      await ok(['apply', '-f', '-'], job('greedy', holdUntilKilled))
      kube.faults.killPod(namespace, await ready('greedy'), 'OOMKilled')
      await finished('greedy', 'failed')
      const [pod] = await podsOf('greedy')
      expect(pod?.status.containerStatuses?.[0]?.state.terminated).toMatchObject({ exitCode: 137, reason: 'OOMKilled' })
    })

    test('a pod is evicted for its node, and that costs no retry when the policy ignores it', async () => {
      const rule = { action: 'Ignore', onPodConditions: [{ type: 'DisruptionTarget', status: 'True' }] }
      await ok(['apply', '-f', '-'], job('moved', holdUntilKilled, { spec: { podFailurePolicy: { rules: [rule] } } }))
      const first = await ready('moved')
      kube.faults.evictPod(namespace, first, 'The node was low on resource: memory.', true)
      await until('jsonpath={.status.phase}=Failed', `pod/${first}`)
      expect((await read<Pod>('pods', first)).status).toMatchObject({
        reason: 'Evicted',
        message: 'The node was low on resource: memory.',
      })
      await until('jsonpath={.status.active}=1', 'job/moved')
      expect((await read<Job>('jobs', 'moved')).status.failed).toBeUndefined()
      await ok(['delete', 'job', 'moved'])
    })

    test('a node is cut off: its pod is replaced, and the Job ends when the node is back', async () => {
      const gate = path.join(dir, 'second')
      const script = `import os, time\nprint("up")\nif not os.path.exists(${JSON.stringify(gate)}): time.sleep(600)`
      await ok(['apply', '-f', '-'], job('cut', script, { spec: { backoffLimit: 1 } }))
      const first = await ready('cut')
      const { nodeName = '' } = (await read<Pod>('pods', first)).spec
      kube.faults.cutNode(nodeName, { power: false })
      expect((await read<Node>('nodes', nodeName)).status.conditions.find(({ type }) => type === 'Ready')?.status).toBe(
        'Unknown',
      )
      await writeFile(gate, '')
      kube.faults.evictFromNode(nodeName)
      await until('condition=SuccessCriteriaMet', 'job/cut')
      expect(await conditions('cut')).toEqual(['SuccessCriteriaMet CompletionsReached'])
      expect((await read<Job>('jobs', 'cut')).status).toMatchObject({ succeeded: 1, terminating: 1 })
      kube.faults.restoreNode(nodeName)
      await finished('cut')
    })

    test('the scheduler and the kubelet take their time', async () => {
      kube.faults.pauseScheduler(true)
      kube.faults.delay({ pull: 600_000 })
      await ok(['apply', '-f', '-'], job('slow', ''))
      expect((await podsOf('slow'))[0]?.status).toEqual({ phase: 'Pending', qosClass: 'BestEffort' })
      kube.faults.pauseScheduler(false)
      expect(await waiting('slow', 'ContainerCreating')).toBeUndefined()
      expect(await podEvent('slow', 'Pulling')).toBe('Pulling image "python:3.11-slim"')
      await ok(['delete', 'job', 'slow', '--cascade=foreground'])
      kube.faults.delay({ pull: 0 })
    })

    test('pods are refused, as by a quota', async () => {
      kube.faults.refusePods('exceeded quota: team')
      await ok(['apply', '-f', '-'], job('refused', ''))
      const [event] = await eventsOf('refused')
      expect(event).toMatchObject({
        reason: 'FailedCreate',
        message: 'Error creating: pods "refused-" is forbidden: exceeded quota: team',
      })
      kube.faults.refusePods(undefined)
      await finished('refused')
    })
  })

  test('what it does not know it refuses and notes down', async () => {
    expect(kube.unknownCalls).toEqual([])
    const { code, stderr } = await kubectl(['get', '--raw', '/apis/apps/v1/deployments'])
    expect([code, stderr]).toEqual([
      1,
      'Error from server (NotFound): the server could not find the requested resource\n',
    ])
    expect(
      (await kubectl(['create', '-f', '-'], job('limited', '', { spec: { backoffLimitPerIndex: 1 } }))).stderr,
    ).toContain('NotImplemented')
    expect(kube.unknownCalls.map(({ method, path }) => `${method} ${path.split('?')[0]}`)).toEqual([
      'GET /apis/apps/v1/deployments',
      `POST /apis/batch/v1/namespaces/${namespace}/jobs`,
    ])
  })
})

describe.skipIf(real)('the pods of a stand-in', () => {
  // A stand-in in a process of its own, with a pod whose first process has a child; all of them write their ids to a file.
  async function startApart(): Promise<{ child: ReturnType<typeof spawn>; pids: number[] }> {
    const folder = await mkdtemp(path.join(dir, 'apart-'))
    const pids = path.join(folder, 'pids')
    const lines = [
      'import os, subprocess, sys, time',
      `child = subprocess.Popen(["sleep", "600"])`,
      `open(${JSON.stringify(`${pids}.part`)}, "w").write(f"{os.getpid()} {child.pid}")`,
      `os.rename(${JSON.stringify(`${pids}.part`)}, ${JSON.stringify(pids)})`,
      'print("up", flush=True)',
      'time.sleep(600)',
    ]
    const program = path.join(folder, 'apart.mts')
    const source = path.resolve(import.meta.dirname, '../local/kube.mts')
    await writeFile(
      program,
      `import { startKube } from ${JSON.stringify(source)}
       const kube = await startKube({ dir: ${JSON.stringify(folder)}, python: ${JSON.stringify(python)}, namespaces: ['team'] })
       process.on('SIGTERM', () => kube.close().then(() => process.exit(0)))
       process.stdout.write(kube.kubeconfig + '\\n')`,
    )
    const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [config] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
    const kubectlThere = (args: string[], input?: string) =>
      execFileSync('kubectl', ['--kubeconfig', config, '-n', 'team', ...args], { input, encoding: 'utf8' })
    kubectlThere(['apply', '-f', '-'], JSON.stringify(job('held', lines.join('\n'))))
    kubectlThere(['wait', '--for=condition=Ready', 'pod', '-l', 'job-name=held', '--timeout=20s'])
    const follow = spawn('kubectl', ['--kubeconfig', config, '-n', 'team', 'logs', '-f', 'job/held'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    await once(createInterface({ input: follow.stdout }), 'line')
    follow.kill()
    return { child, pids: (await readFile(pids, 'utf8')).split(' ').map(Number) }
  }

  const alive = (pid: number) => {
    try {
      process.kill(pid, 0)
      return true
    } catch {
      return false
    }
  }

  // A process that was killed is there until init has reaped it.
  const gone = (pids: number[]) => expect.poll(() => pids.map(alive), { timeout: 10_000 }).toEqual([false, false])

  test('end with it when it closes', async () => {
    const { child, pids } = await startApart()
    expect(pids.map(alive)).toEqual([true, true])
    child.kill('SIGTERM')
    expect(await once(child, 'exit')).toEqual([0, null])
    await gone(pids)
  })

  test('end with it when it is killed', async () => {
    const { child, pids } = await startApart()
    child.kill('SIGKILL')
    await once(child, 'exit')
    await gone(pids)
  })
})
