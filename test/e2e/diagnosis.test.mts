import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import {
  claimOfNobody,
  eventsOf,
  expectEnd,
  expectSaidAfter,
  expectSaidSoon,
  idOf,
  isUnscheduled,
  jobOf,
  podOnce,
  podsOf,
  Uploads,
  until,
  waitsFor,
} from '../flow/failing.mts'
import { smallModel } from '../local/model.mts'
import { createWorld, type World } from '../local/world.mts'

// The states of the diagnosis table into which a real cluster can be brought. The stand-in shows the others.

const PATIENCE = ['--grace', '3']
const names = [
  'image',
  'noname',
  'secret',
  'key',
  'room',
  'quota',
  'oom',
  'retry',
  'deleted',
  'gone',
  'deadline',
  'silent',
  'timeout',
]
let world: World
let uploads: Uploads

beforeAll(async () => {
  // The one that has to pass its memory limit is large enough that its buffers do not fit beside Python itself.
  const models = names.map((name) => smallModel({ id: idOf(name), shardSize: name === 'oom' ? 60_000_000 : 3_000_000 }))
  world = await createWorld({ models })
  uploads = new Uploads(world)
})
afterAll(async () => {
  uploads?.open()
  await world?.close()
})
afterEach(async () => {
  uploads.open()
  // A pod that waits holds its place on the node; nothing that a row left counts any more.
  await world.kubectl(['delete', 'jobs', '--all', '--cascade=foreground', '--timeout=60s'])
})

/** The environment of somebody who may run Jobs and not look at Secrets and nodes: the preflight lets them pass. */
async function narrowUser(): Promise<Record<string, string>> {
  const name = 'narrow'
  const rules = [
    { apiGroups: ['batch'], resources: ['jobs'], verbs: ['get', 'list', 'create', 'patch', 'delete'] },
    { apiGroups: [''], resources: ['pods', 'pods/log', 'events'], verbs: ['get', 'list'] },
    { apiGroups: [''], resources: ['configmaps'], verbs: ['get', 'create'] },
  ]
  const metadata = { name }
  const roleRef = { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name }
  const subjects = [{ kind: 'ServiceAccount', name, namespace: world.namespace }]
  for (const object of [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata },
    { apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'Role', metadata, rules },
    { apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'RoleBinding', metadata, roleRef, subjects },
  ])
    await world.kubectl(['create', '-f', '-'], object)
  const token = (await world.kubectl(['create', 'token', name])).trim()
  const config = JSON.parse(await world.kubectl(['config', 'view', '--raw', '--minify', '-o', 'json']))
  config.users[0].user = { token }
  const file = path.join(world.dir, 'narrow-kubeconfig')
  await writeFile(file, JSON.stringify(config), { mode: 0o600 })
  return { KUBECONFIG: file }
}

test('an image whose registry does not answer: said at once, waited for within the grace', async () => {
  const running = uploads.start('image', PATIENCE, { MOVER_IMAGE: 'registry.invalid/no-such:1' })
  await expectSaidSoon({
    running,
    visible: async () => (await uploads.pods('image')).some(waitsFor('ErrImagePull', 'ImagePullBackOff')),
    says: /^ +image registry\.invalid\/no-such:1 cannot be pulled/m,
  })
  await expectEnd(running, {
    code: 1,
    cause: 'image-pull',
    last: [/cannot be pulled: .*refused/, /--image.*--restart/],
  })
})

test('an image that can never be pulled', async () => {
  const running = uploads.start('noname', [], { MOVER_IMAGE: 'registry.invalid/NO-SUCH:1' })
  await expectSaidSoon({
    running,
    visible: async () => (await uploads.pods('noname')).some(waitsFor('InvalidImageName')),
    says: /✗ .*image registry\.invalid\/NO-SUCH:1 cannot be pulled/,
  })
  await expectEnd(running, { code: 1, cause: 'image-pull', last: [/cannot be pulled/, /--image.*--restart/] })
})

describe('for somebody who may not look at Secrets', () => {
  let env: Record<string, string>
  beforeAll(async () => {
    env = await narrowUser()
  })
  afterEach(async () => {
    await world.putSecret('spaces-credentials', {
      AWS_ACCESS_KEY_ID: world.s3.accessKey,
      AWS_SECRET_ACCESS_KEY: world.s3.secretKey,
    })
  })

  test('a Secret that is missing', async () => {
    await world.putSecret('spaces-credentials')
    const running = uploads.start('secret', [], env)
    await expectSaidSoon({
      running,
      visible: async () => (await uploads.pods('secret')).some(waitsFor('CreateContainerConfigError')),
      says: /✗ .*Secret spaces-credentials does not exist/,
    })
    await expectEnd(running, { code: 1, cause: 'no-secret', last: [/spaces-credentials/, /create it/] })
  })

  test('a key that is missing: the mover says it', async () => {
    await world.putSecret('spaces-credentials', { AWS_ACCESS_KEY_ID: world.s3.accessKey })
    const running = uploads.start('key', [], env)
    await expectSaidSoon({ running, visible: () => uploads.podHasFailed('key'), says: /✗ .*AWS_SECRET_ACCESS_KEY/ })
    await expectEnd(running, { code: 1, cause: 'spaces-credentials', last: [/AWS_SECRET_ACCESS_KEY/, /Secret/] })
  })
})

test('no room on any node: said at once, waited for within the grace', async () => {
  await world.kubectl(['create', '-f', '-'], fillers())
  try {
    await until(async () => (await podsOf(world, 'filler')).some(isUnscheduled))
    const running = uploads.start('room', PATIENCE)
    await expectSaidSoon({
      running,
      visible: async () => (await uploads.pods('room')).some(isUnscheduled),
      says: /^ +no node takes pod .*Insufficient cpu/m,
    })
    await expectEnd(running, { code: 1, cause: 'unschedulable', last: [/Insufficient cpu/, /free or add a node/] })
  } finally {
    await world.kubectl(['delete', 'job', 'filler', '--cascade=foreground'])
  }
})

test('a claim that is Pending', async () => {
  await world.kubectl(['create', '-f', '-'], claimOfNobody('pending'))
  const args = ['--model', idOf('claim'), '--pvc', 'pending', '--json', ...PATIENCE]
  const running = world.start('model-to-nfs', args)
  await expectSaidSoon({
    running,
    visible: async () => (await podsOf(world, jobOf('claim', 'download-nfs'))).some(isUnscheduled),
    says: /^ +pod \S+ waits for its PVC: /m,
  })
  await expectEnd(running, { code: 1, cause: 'claim-pending', last: [/waits for its PVC/, /fix-pvc/] })
})

test('a volume that cannot be mounted', async () => {
  const pv = `${world.pv}-nowhere`
  await world.addVolume(pv, { hostPath: { path: `${world.dir}/nowhere`, type: 'Directory' } })
  const bound = await world.run('fix-pvc', ['--pv', pv, '--pvc', 'nowhere'])
  expect(bound, bound.stderr).toMatchObject({ code: 0 })
  const running = world.start('model-to-nfs', ['--model', idOf('mount'), '--pvc', 'nowhere', '--json', ...PATIENCE])
  await expectSaidSoon({
    running,
    visible: async () => (await eventsOf(world, 'FailedMount', jobOf('mount', 'download-nfs'))).length > 0,
    says: /^ +pod \S+ cannot mount its volume: .*nowhere/m,
  })
  await expectEnd(running, { code: 1, cause: 'mount', last: [/cannot mount its volume/, /mount options/] })
})

test('a quota that takes no pod', async () => {
  await world.kubectl(['create', 'quota', 'small', '--hard=requests.memory=1Gi'])
  try {
    const running = uploads.start('quota', PATIENCE)
    await expectSaidSoon({
      running,
      visible: () => uploads.isRefused('quota'),
      says: /^ +the cluster refuses the Job's pods: .*exceeded quota: small/m,
    })
    await expectEnd(running, { code: 1, cause: 'pod-refused', last: [/exceeded quota: small/, /raise the quota/] })
  } finally {
    await world.kubectl(['delete', 'quota', 'small'])
  }
})

test('more memory than the limit', async () => {
  const running = uploads.start('oom', ['--memory', '100Mi', '--buffer', '96Mi'])
  await podOnce(world, jobOf('oom'), () => true)
  await uploads.patchJob('oom', { backoffLimit: 0 })
  await expectSaidSoon({ running, visible: () => uploads.podHasFailed('oom'), says: /✗ .*memory limit of 100Mi/ })
  await expectEnd(running, { code: 1, cause: 'out-of-memory', last: [/memory limit of 100Mi/, /--memory.*--buffer/] })
})

test('what no retry can help: the mover says it', async () => {
  const running = uploads.start('elsewhere')
  await expectSaidSoon({ running, visible: () => uploads.podHasFailed('elsewhere'), says: /✗ .*acme\/elsewhere/ })
  await expectEnd(running, { code: 1, cause: 'no-model', last: [/acme\/elsewhere/, /id|token/] })
})

test('a failed pod is told with the retry, which succeeds', async () => {
  const { running, pod } = await uploads.startHeld('retry')
  await world.kubectl(['exec', pod.metadata.name, '--', 'python', '-c', 'import os; os.kill(1, 15)'])
  await expectSaidSoon({
    running,
    visible: async () => (await uploads.pods('retry')).some(({ status }) => status.phase === 'Failed'),
    says: /pod \S+ failed: the pod was told to stop.*; the Job tries again/,
  })
  uploads.open('retry')
  const done = await running.outcome
  expect(done, done.stderr).toMatchObject({ code: 0 })
  expect(done.stderr).toMatch(/✓ to Spaces .* files moved, .*, by the last of 2 pods$/m)
})

test('a deleted pod is told with the retry, and the Job goes on', async () => {
  const { running, pod } = await uploads.startHeld('deleted')
  await world.kubectl(['delete', 'pod', pod.metadata.name, '--wait=false'])
  await expectSaidSoon({
    running,
    visible: async () => !(await uploads.pods('deleted')).some(({ metadata: { name } }) => name === pod.metadata.name),
    says: /pod \S+ was deleted; .*the Job tries again/,
  })
  uploads.open('deleted')
  const done = await running.outcome
  expect(done, done.stderr).toMatchObject({ code: 0 })
})

test('a deleted Job', async () => {
  const { running } = await uploads.startHeld('gone')
  await Promise.all([
    expectSaidSoon({
      running,
      visible: async () => !(await uploads.isThere('gone')),
      says: /✗ .*was deleted while it ran/,
    }),
    world.kubectl(['delete', 'job', jobOf('gone')]),
  ])
  await expectEnd(running, { code: 1, cause: 'job-deleted', last: [/was deleted while it ran/, /start it again/] })
})

test('a Job at its deadline', async () => {
  const { running } = await uploads.startHeld('deadline')
  await uploads.patchJob('deadline', { activeDeadlineSeconds: 1 })
  await expectSaidSoon({ running, visible: () => uploads.hasFailed('deadline'), says: /✗ .*its deadline of 1 s/ })
  await expectEnd(running, { code: 1, cause: 'deadline', last: [/deadline/, /run the same command/] })
})

test('no progress: told, and not the end', async () => {
  const { running } = await uploads.startHeld('silent', PATIENCE)
  await expectSaidAfter(running, 20, /^ +pod \S+ has made no progress for 20 s, in phase \w+$/m)
  uploads.open('silent')
  const done = await running.outcome
  expect(done, done.stderr).toMatchObject({ code: 0 })
})

test('our own timeout: the Job goes on', async () => {
  const { running } = await uploads.startHeld('timeout', ['--timeout', '8'])
  await expectSaidAfter(running, 8, /✗ .*is not done after 8 s/)
  await expectEnd(running, { code: 124, cause: 'timeout', last: [/is not done after 8 s/, /follow it again: /] })
  expect((await world.object('job', jobOf('timeout')))?.status.conditions ?? []).toEqual([])
})

/** A Job of more small pods than any cluster of tests has room for: together they leave no whole CPU free. */
function fillers(): unknown {
  const COUNT = 40
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name: 'filler' },
    spec: {
      parallelism: COUNT,
      completions: COUNT,
      template: {
        spec: {
          restartPolicy: 'Never',
          terminationGracePeriodSeconds: 0,
          containers: [
            {
              name: 'filler',
              image: 'python:3.11-slim',
              command: ['sleep', '600'],
              resources: { requests: { cpu: '500m' } },
            },
          ],
        },
      },
    },
  }
}
