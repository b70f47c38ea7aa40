import { describe, expect, test } from 'vitest'
import { deletedPod, diagnoseFailure, diagnosePod, diagnoseWaiting } from '../../scripts/lib/diagnosis.mts'
import type { Condition, ContainerStatus, Event, Job, Node, Pod } from '../../scripts/lib/objects.mts'
import { phaseOf } from '../../scripts/lib/pod.mts'

// The messages are those of a real 1.33 cluster.

let order = 0

function metadata(name: string) {
  order += 1
  return {
    name,
    namespace: 'ns',
    uid: `uid-${name}`,
    resourceVersion: '1',
    creationTimestamp: `2026-01-01T00:00:${String(order % 60).padStart(2, '0')}Z`,
  }
}

function job(...conditions: Partial<Condition>[]): Job {
  const template = { metadata: {}, spec: { containers: [] } }
  return {
    kind: 'Job',
    metadata: metadata('j'),
    spec: { activeDeadlineSeconds: 86400, template },
    status: { conditions: conditions.map((one) => ({ type: 'Failed', status: 'True', ...one })) },
  }
}

interface PodShape {
  name?: string
  state?: ContainerStatus['state']
  status?: Partial<Pod['status']>
  node?: string
}

function pod({ name = 'p', state, status, node = 'n1' }: PodShape): Pod {
  const containers = [{ name: 'mover', image: 'python:3.11-slim', resources: { limits: { memory: '3Gi' } } }]
  return {
    kind: 'Pod',
    metadata: metadata(name),
    spec: { containers, ...(node ? { nodeName: node } : {}) },
    status: { phase: 'Pending', ...(state ? { containerStatuses: [{ name: 'mover', state }] } : {}), ...status },
  }
}

function failed(
  terminated: { exitCode: number; reason?: string; message?: string },
  status: Partial<Pod['status']> = {},
): Pod {
  return pod({ state: { terminated }, status: { phase: 'Failed', ...status } })
}

function event(of: string, reason: string, message: string): Event {
  return { reason, message, metadata: metadata('e'), involvedObject: { uid: `uid-${of}` } }
}

const gated = JSON.stringify({ state: 'failed', cause: 'gated', detail: 'a/b is gated', next: 'ask for access' })
const stopped = JSON.stringify({ state: 'failed', cause: 'stopped', detail: 'told to stop', next: 'again' })
const mismatch = JSON.stringify({
  state: 'failed',
  cause: 'mismatch',
  detail: 'of 3 files 1 missing',
  next: 'run make model-to-nfs',
  missing: ['config.json'],
  wrong: [],
  unknown: ['x', 'y'],
})

describe('a pod that waits', () => {
  const pull = (message: string, reason = 'ImagePullBackOff') => pod({ state: { waiting: { reason, message } } })
  const refused = 'failed to do request: Head "http://x/v2": dial tcp: connect: connection refused'
  const pulling = `failed to pull and unpack image "x:1": failed to resolve reference "x:1": `

  test.each<
    [string, Pod, Event[], { cause: string; detail?: string | RegExp; next?: string | RegExp; fatal: boolean }]
  >([
    [
      'an image whose registry does not answer',
      pull(`Back-off pulling image "x:1": ErrImagePull: ${pulling}${refused}`),
      [],
      {
        cause: 'image-pull',
        detail: `image python:3.11-slim cannot be pulled: ${refused}`,
        next: /--image/,
        fatal: false,
      },
    ],
    [
      'an image whose registry has no address yet',
      pull(
        `${pulling}failed to do request: Head "https://x/v2": dial tcp: lookup x: server misbehaving`,
        'ErrImagePull',
      ),
      [],
      { cause: 'image-pull', fatal: false },
    ],
    [
      'an image that the registry keeps to itself',
      pull(`${pulling}pull access denied, repository does not exist or may require authorization`, 'ErrImagePull'),
      [],
      { cause: 'image-pull', fatal: true },
    ],
    [
      "a Secret that the node's kubelet has not heard of yet",
      pod({
        state: {
          waiting: {
            reason: 'CreateContainerConfigError',
            message: 'failed to sync secret cache: timed out waiting for the condition',
          },
        },
      }),
      [],
      { cause: 'container-config', detail: /failed to sync secret cache/, fatal: false },
    ],
    [
      'an image, seen by an older kubelet that gives the reason in an event only',
      pull('Back-off pulling image "x:1"'),
      [event('p', 'Failed', `Failed to pull image "x:1": rpc error: code = NotFound desc = ${pulling}x:1: not found`)],
      { cause: 'image-pull', detail: /cannot be pulled: x:1: not found$/, fatal: true },
    ],
    [
      'an image of a registry that is busy',
      pull(`${pulling}429 Too Many Requests`, 'ErrImagePull'),
      [],
      { cause: 'image-pull', fatal: false },
    ],
    [
      'an image name that is none',
      pull('', 'InvalidImageName'),
      [],
      { cause: 'image-pull', detail: /InvalidImageName/, fatal: true },
    ],
    [
      'a Secret',
      pod({
        state: { waiting: { reason: 'CreateContainerConfigError', message: 'secret "spaces-credentials" not found' } },
      }),
      [],
      { cause: 'no-secret', detail: 'Secret spaces-credentials does not exist in namespace ns', fatal: true },
    ],
    [
      'a key of a Secret',
      pod({
        state: { waiting: { reason: 'CreateContainerConfigError', message: "couldn't find key k in Secret ns/s" } },
      }),
      [],
      { cause: 'container-config', detail: /couldn't find key k in Secret ns\/s/, fatal: true },
    ],
    [
      'a ConfigMap volume',
      pod({ state: { waiting: { reason: 'ContainerCreating' } } }),
      [event('p', 'FailedMount', 'MountVolume.SetUp failed for volume "mover" : configmap "model-mover-1" not found')],
      { cause: 'no-configmap', detail: /model-mover-1/, next: /--restart/, fatal: false },
    ],
    [
      'an NFS server',
      pod({ state: { waiting: { reason: 'ContainerCreating' } } }),
      [event('p', 'FailedMount', 'MountVolume.SetUp failed for volume "pv" : mount failed: exit status 32')],
      { cause: 'mount', detail: /exit status 32/, fatal: false },
    ],
    [
      'a claim that is not there',
      pod({
        node: '',
        status: {
          conditions: [
            unschedulable(
              '0/2 nodes are available: persistentvolumeclaim "models" not found. preemption: 0/2 nodes are available',
            ),
          ],
        },
      }),
      [],
      { cause: 'no-claim', next: /fix-pvc/, fatal: true },
    ],
    [
      'a claim that is Pending',
      pod({
        node: '',
        status: {
          conditions: [unschedulable('0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.')],
        },
      }),
      [],
      { cause: 'claim-pending', next: /fix-pvc/, fatal: false },
    ],
    [
      'a claim whose volume is gone',
      pod({
        node: '',
        status: {
          conditions: [
            unschedulable(
              '0/2 nodes are available: persistentvolumeclaim "models" bound to non-existent persistentvolume "pv". preemption: 0/2',
            ),
          ],
        },
      }),
      [],
      { cause: 'claim-lost', detail: /^PVC models is Lost: .* persistentvolume "pv"$/, fatal: true },
    ],
    [
      'a node that fits',
      pod({
        node: '',
        status: {
          conditions: [
            unschedulable(
              '0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No preemption victims',
            ),
          ],
        },
      }),
      [],
      {
        cause: 'unschedulable',
        detail: 'no node takes pod p: 0/2 nodes are available: 2 Insufficient cpu.',
        fatal: false,
      },
    ],
  ])('for %s', (_, waiting, events, { detail, next, ...rest }) => {
    const found = diagnoseWaiting({ job: job(), pods: [failed({ exitCode: 1 }), waiting], events })
    expect(found).toMatchObject(rest)
    if (detail) expect(found?.detail).toMatch(detail)
    if (next) expect(found?.next).toMatch(next)
  })

  test('for nothing but its turn has no diagnosis', () => {
    const states = [
      pod({}),
      pod({ state: { running: { startedAt: '' } } }),
      pod({ state: { waiting: { reason: 'ContainerCreating' } } }),
    ]
    for (const one of states) expect(diagnoseWaiting({ job: job(), pods: [one], events: [] })).toBeUndefined()
  })

  test('is not blamed for the mounts of a pod before it', () => {
    const events = [event('other', 'FailedMount', 'configmap "x" not found')]
    expect(diagnoseWaiting({ job: job(), pods: [pod({})], events })).toBeUndefined()
  })

  test('for a node that is there, and large enough or not', () => {
    const message = '0/1 nodes are available: 1 Insufficient memory.'
    const waiting = pod({ node: '', status: { conditions: [unschedulable(message)] } })
    const [mover] = waiting.spec.containers
    if (mover) mover.resources.requests = { memory: '2Gi' }
    const look = (memory: string) =>
      diagnoseWaiting({ job: job(), pods: [waiting], events: [], nodes: [node({ memory })] })
    expect(look('4Gi')).toMatchObject({
      cause: 'unschedulable',
      detail: expect.stringContaining(message),
      fatal: false,
    })
    const never = { cause: 'unschedulable', detail: expect.stringMatching(/can ever hold .*1Gi/) }
    expect(look('1Gi')).toMatchObject({ ...never, fatal: false, grace: 20 })
    const added = event('p', 'TriggeredScaleUp', 'pod triggered scale-up: [{pool-large 0->1 (max: 3)}]')
    const growing = diagnoseWaiting({ job: job(), pods: [waiting], events: [added], nodes: [node({ memory: '1Gi' })] })
    expect(growing).toMatchObject({ detail: expect.stringMatching(/node that is being added: .*pool-large 0->1/) })
    expect(growing, 'a node takes longer to come than any grace').toMatchObject({ patient: true })
    const full = event('p', 'NotTriggerScaleUp', 'pod did not trigger scale-up: 1 max node group size reached')
    const stuck = diagnoseWaiting({
      job: job(),
      pods: [waiting],
      events: [added, full],
      nodes: [node({ memory: '1Gi' })],
    })
    expect(stuck).toMatchObject({ ...never, grace: 20 })
  })

  test('for a node that is silent', () => {
    const running = { state: { running: { startedAt: '' } } }
    const unready = { conditions: [{ type: 'Ready', status: 'False' }] }
    const silent = [node({}, 'Unknown')]
    const cutOff = pod({ ...running, status: { phase: 'Running', ...unready } })
    const look = (one: Pod, nodes?: Node[], succeeded = 0) =>
      diagnoseWaiting({
        job: { ...job(), status: { succeeded } },
        pods: [one],
        events: [],
        ...(nodes ? { nodes } : {}),
      })
    expect(look(cutOff, silent)).toMatchObject({ cause: 'node-lost', fatal: false, patient: true })
    expect(look(cutOff, [node({})])).toBeUndefined()
    expect(look(pod({ ...running, status: { phase: 'Running' } }), silent)).toBeUndefined()

    const leaving = (deletionTimestamp: string) => ({ ...cutOff, metadata: { ...cutOff.metadata, deletionTimestamp } })
    const future = new Date(Date.now() + 60_000).toISOString()
    expect(look(leaving(future), silent)).toMatchObject({
      cause: 'node-lost',
      detail: expect.stringContaining('makes no other pod'),
    })
    expect(look(leaving(future), silent, 1)).toMatchObject({ detail: expect.stringContaining('is not Complete while') })
    expect(look(leaving(future)), 'it has time to end').toBeUndefined()
    expect(look(leaving('2026-01-01T00:00:00Z')), 'nodes that may not be looked at').toMatchObject({
      cause: 'node-lost',
    })
  })

  test('is not said to wait when its predecessor can never run', () => {
    const broken = failed({ exitCode: 128, reason: 'StartError', message: 'exec: "python": not found' })
    expect(diagnoseWaiting({ job: job(), pods: [broken], events: [] })).toMatchObject({ cause: 'cannot-start' })
  })

  test('for a queue that holds its Job back', () => {
    const held = job()
    held.spec.suspend = true
    expect(diagnoseWaiting({ job: held, pods: [], events: [] })).toMatchObject({
      cause: 'suspended',
      detail: expect.stringContaining('is suspended'),
      fatal: false,
      patient: true,
    })
  })

  test('not for a mount that has come about since', () => {
    const creating = pod({ state: { waiting: { reason: 'ContainerCreating' } } })
    const missed = event('p', 'FailedMount', 'MountVolume.SetUp failed for volume "mover" : configmap "m" not found')
    const look = (...events: Event[]) => diagnoseWaiting({ job: job(), pods: [creating], events })
    expect(look(event('p', 'Scheduled', 'assigned'), missed)).toMatchObject({ cause: 'no-configmap' })
    expect(look(missed, event('p', 'Pulling', 'Pulling image "x"'))).toBeUndefined()
  })

  test('to be made again: a quota that was lowered meanwhile, until a pod is made', () => {
    const refused = event('j', 'FailedCreate', 'Error creating: pods "x" is forbidden: exceeded quota: q')
    const made = event('j', 'SuccessfulCreate', 'Created pod: x')
    const look = (...events: Event[]) => diagnoseWaiting({ job: job(), pods: [failed({ exitCode: 1 })], events })
    expect(look(made, refused)).toMatchObject({ cause: 'pod-refused' })
    expect(look(refused, made)).toBeUndefined()
  })

  test('to be created at all: quota, admission', () => {
    const events = [event('j', 'FailedCreate', 'Error creating: pods "x" is forbidden: exceeded quota: q')]
    const found = diagnoseWaiting({ job: job(), pods: [], events })
    expect(found).toMatchObject({
      cause: 'pod-refused',
      fatal: false,
      detail: expect.stringMatching(/exceeded quota: q$/),
    })
  })
})

describe('a pod that failed', () => {
  test.each<[string, Pod, { cause: string; detail: string; next?: RegExp }]>([
    [
      'as the mover says',
      failed({ exitCode: 64, message: gated }),
      { cause: 'gated', detail: 'a/b is gated', next: /^ask for access$/ },
    ],
    [
      'with files that do not agree',
      failed({ exitCode: 64, message: mismatch }),
      { cause: 'mismatch', detail: 'of 3 files 1 missing; missing: config.json; unknown: x, y' },
    ],
    [
      'at its memory limit',
      failed({ exitCode: 137, reason: 'OOMKilled' }),
      { cause: 'out-of-memory', detail: 'pod p was killed at its memory limit of 3Gi', next: /--memory/ },
    ],
    [
      'evicted',
      failed({ exitCode: 137 }, { reason: 'Evicted', message: 'The node was low on resource: ephemeral-storage.' }),
      {
        cause: 'evicted',
        detail: 'pod p was evicted from node n1: The node was low on resource: ephemeral-storage.',
        next: /^free ephemeral-storage on the node/,
      },
    ],
    [
      'evicted for its own disk',
      failed(
        { exitCode: 137 },
        { reason: 'Evicted', message: 'Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.' },
      ),
      { cause: 'evicted', detail: expect.stringContaining('exceeds the total limit'), next: /^free ephemeral-storage/ },
    ],
    [
      'deleted by somebody',
      {
        ...failed({ exitCode: 143, message: stopped }),
        metadata: { ...metadata('p'), deletionTimestamp: '2026-01-01T00:00:00Z' },
      },
      { cause: 'pod-deleted', detail: 'pod p was deleted; what it had moved is kept' },
    ],
    [
      'told to stop by nobody knows whom',
      failed({ exitCode: 143, message: stopped }),
      { cause: 'stopped', detail: 'told to stop' },
    ],
    [
      'with its node',
      failed(
        { exitCode: 137 },
        {
          conditions: [
            {
              type: 'DisruptionTarget',
              status: 'True',
              reason: 'DeletionByTaintManager',
              message: 'Taint manager: deleting due to NoExecute taint',
            },
          ],
        },
      ),
      { cause: 'disrupted', detail: 'pod p was removed from node n1: Taint manager: deleting due to NoExecute taint' },
    ],
    [
      'for want of python',
      failed({
        exitCode: 128,
        reason: 'StartError',
        message:
          'failed to create containerd task: runc create failed: unable to start container process: exec: "python": executable file not found in $PATH: unknown',
      }),
      {
        cause: 'cannot-start',
        detail: 'pod p could not start its program: exec: "python": executable file not found in $PATH',
        next: /--image/,
      },
    ],
    [
      'without a word',
      failed({ exitCode: 1, message: 'Traceback' }),
      { cause: 'mover-ended', detail: 'pod p ended with exit code 1 and left no reason' },
    ],
    [
      'before its container',
      pod({ status: { phase: 'Failed', reason: 'NodeAffinity', message: 'no fit' } }),
      { cause: 'pod-failed', detail: 'pod p failed: no fit' },
    ],
  ])('%s', (_, one, { next, ...rest }) => {
    expect(diagnosePod(one)).toMatchObject(rest)
    if (next) expect(diagnosePod(one)?.next).toMatch(next)
  })

  test('is not one that runs', () => expect(diagnosePod(pod({ status: { phase: 'Running' } }))).toBeUndefined())
})

describe('a Job that failed', () => {
  test('has the cause of its last pod, not of the limit', () => {
    const pods = [failed({ exitCode: 1 }), failed({ exitCode: 64, message: gated })]
    for (const reason of ['BackoffLimitExceeded', 'PodFailurePolicy'])
      expect(diagnoseFailure({ job: job({ reason }), pods, events: [] })).toMatchObject({ cause: 'gated', fatal: true })
  })

  test('at its deadline', () => {
    const found = diagnoseFailure({ job: job({ reason: 'DeadlineExceeded' }), pods: [], events: [] })
    expect(found).toMatchObject({ cause: 'deadline', detail: expect.stringContaining('86400 s') })
  })

  test('whose pods are gone, of which one was seen', () => {
    const snapshot = { job: job({ reason: 'BackoffLimitExceeded' }), pods: [], events: [] }
    expect(diagnoseFailure(snapshot, deletedPod('p'))).toMatchObject({ cause: 'pod-deleted', fatal: true })
  })

  test('without a pod that is left', () => {
    const found = diagnoseFailure({ job: job({ reason: 'BackoffLimitExceeded' }), pods: [], events: [] })
    expect(found).toMatchObject({ cause: 'no-pod-left', detail: expect.stringContaining('BackoffLimitExceeded') })
  })
})

test.each<[string | undefined, Pod]>([
  ['pod p waits for a node', pod({ node: '' })],
  ['pod p starts on n1', pod({ state: { waiting: { reason: 'ContainerCreating' } } })],
  ['pod p runs on n1', pod({ state: { running: { startedAt: '' } } })],
  [undefined, pod({ state: { terminated: { exitCode: 0 } }, status: { phase: 'Running' } })],
  [undefined, pod({ status: { phase: 'Succeeded' } })],
])('described: %s', (words, one) => expect(phaseOf(one, [])?.sentence).toBe(words))

test('an image is pulled between two events of the kubelet', () => {
  const waiting = pod({ state: { waiting: { reason: 'ContainerCreating' } } })
  const pulling = event('p', 'Pulling', 'Pulling image "python:3.11-slim"')
  const phase = { short: 'pulling image', sentence: 'pod p is pulling image python:3.11-slim on n1' }
  expect(phaseOf(waiting, [pulling])).toEqual(phase)
  expect(phaseOf(waiting, [pulling, event('p', 'Pulled', '')])?.short).toBe('starting')
  expect(phaseOf(waiting, [event('other', 'Pulling', '')])?.short).toBe('starting')
})

function node(allocatable: Record<string, string>, ready = 'True'): Node {
  return {
    metadata: metadata('n1'),
    spec: {},
    status: { allocatable, conditions: [{ type: 'Ready', status: ready }] },
  }
}

function unschedulable(message: string): Condition {
  return { type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message }
}
