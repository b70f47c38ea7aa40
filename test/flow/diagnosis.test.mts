import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { real } from '../local/cluster.mts'
import type { Running } from '../local/command.mts'
import { smallModel } from '../local/model.mts'
import { createWorld, type World } from '../local/world.mts'
import {
  claimOfNobody,
  eventsOf,
  expectEnd,
  expectSaidAfter,
  expectSaidSoon,
  idOf,
  isUnready,
  isUnscheduled,
  jobOf,
  podOnce,
  podsOf,
  Uploads,
  until,
  waitsFor,
} from './failing.mts'

// Each row of the table from states to causes, on the stand-in, which can be brought into all of them.

const PATIENCE = ['--grace', '3']
const ROOM = { cpu: '64', memory: '128Gi' }
const WORKERS = ['pool-s2vcpu4gb-1', 'pool-s2vcpu4gb-2']
const alone = [
  'secret',
  'configmap',
  'key',
  'never',
  'now',
  'lost',
  'quota',
  'policy',
  'policy',
  'node',
  'eager',
  'pulled',
]
const beside = ['image', 'pending', 'mount', 'oom', 'evicted', 'deleted', 'gone', 'deadline', 'silent', 'timeout']
let world: World
let uploads: Uploads

const keys = () => ({ AWS_ACCESS_KEY_ID: world.s3.accessKey, AWS_SECRET_ACCESS_KEY: world.s3.secretKey })

/** Starts a run, changes the cluster between its preflight and its pod's start, and lets the pod go on. */
async function startBehind(name: string, args: string[], change: () => Promise<unknown> | undefined): Promise<Running> {
  world.kube.faults.pauseScheduler(true)
  try {
    const running = uploads.start(name, args)
    await podOnce(world, jobOf(name), () => true)
    await change()
    return running
  } finally {
    world.kube.faults.pauseScheduler(false)
  }
}

function editWorkers(edit: (node: Parameters<Parameters<World['kube']['faults']['editNode']>[1]>[0]) => void): void {
  for (const name of WORKERS) world.kube.faults.editNode(name, edit)
}

describe.skipIf(real)('on the stand-in', () => {
  beforeAll(async () => {
    const models = [...alone, ...beside].map((name) => smallModel({ id: idOf(name) }))
    world = await createWorld({ models, backoffSeconds: 1 })
    uploads = new Uploads(world)
    const done = await world.run('fix-pvc')
    expect(done, done.stderr).toMatchObject({ code: 0 })
    // Rows leave Jobs that hold their places, and some run side by side.
    editWorkers(({ status }) => Object.assign(status.allocatable, ROOM))
  })
  afterAll(async () => {
    uploads?.open()
    await world?.close()
  })

  describe('one at a time', () => {
    test('a Secret that is gone since the preflight', async () => {
      const running = await startBehind('secret', [], () => world.putSecret('spaces-credentials'))
      try {
        await expectSaidSoon({
          running,
          visible: async () => (await uploads.pods('secret')).some(waitsFor('CreateContainerConfigError')),
          says: /✗ .*Secret spaces-credentials does not exist/,
        })
        await expectEnd(running, { code: 1, cause: 'no-secret', last: [/spaces-credentials/, /create it/] })
      } finally {
        await world.putSecret('spaces-credentials', keys())
      }
    })

    test('a ConfigMap that is gone', async () => {
      const change = () => world.kubectl(['delete', 'configmaps', '--all'])
      const running = await startBehind('configmap', [], change)
      await expectSaidSoon({
        running,
        visible: async () => (await eventsOf(world, 'FailedMount', jobOf('configmap'))).length > 0,
        says: /✗ .*ConfigMap model-mover-\w+ does not exist/,
      })
      await expectEnd(running, { code: 1, cause: 'no-configmap', last: [/ConfigMap model-mover-/, /--restart/] })
    })

    test('a key that is gone: the mover says it', async () => {
      const { AWS_ACCESS_KEY_ID } = keys()
      const running = await startBehind('key', [], () => world.putSecret('spaces-credentials', { AWS_ACCESS_KEY_ID }))
      try {
        await expectSaidSoon({
          running,
          visible: () => uploads.podHasFailed('key'),
          says: /✗ .*AWS_SECRET_ACCESS_KEY/,
        })
        const last: [RegExp, RegExp] = [/AWS_SECRET_ACCESS_KEY/, /Secret/]
        await expectEnd(running, { code: 1, cause: 'spaces-credentials', last })
      } finally {
        await world.putSecret('spaces-credentials', keys())
      }
    })

    test('no node that could ever hold the pod is said at once, and ends the wait unless one is being added', async () => {
      const memory = (text: string) =>
        editWorkers(({ status }) => {
          status.allocatable.memory = text
        })
      const running = await startBehind('never', PATIENCE, async () => memory('1Gi'))
      try {
        await expectSaidSoon({
          running,
          visible: async () => (await uploads.pods('never')).some(isUnscheduled),
          says: /^ +no node can ever hold pod .*memory 2Gi.*memory 1Gi.*taint nvidia\.com\/gpu/m,
        })
        await expectEnd(running, { code: 1, cause: 'unschedulable', last: [/memory/, /--memory/] })
      } finally {
        memory(ROOM.memory)
      }
    })

    test('no node that is free now is said at once and waited for, within the grace', async () => {
      const cordon = (unschedulable: boolean) =>
        editWorkers(({ spec }) => {
          Object.assign(spec, { unschedulable })
        })
      const running = await startBehind('now', PATIENCE, async () => cordon(true))
      try {
        await expectSaidSoon({
          running,
          visible: async () => (await uploads.pods('now')).some(isUnscheduled),
          says: /^ +no node takes pod .*2 node\(s\) were unschedulable/m,
        })
        await expectEnd(running, { code: 1, cause: 'unschedulable', last: [/no node takes/, /free or add a node/] })
      } finally {
        cordon(false)
      }
      const again = await uploads.start('now').outcome
      expect(again, again.stderr).toMatchObject({ code: 0 })
    })

    test('an image that takes its time is told as such, and the last line tells what moved', async () => {
      world.kube.faults.delay({ pull: 2000 })
      const running = uploads.start('pulled')
      await running.says(/^ +pod \S+ is pulling image python:3\.11-slim on \S+$/m)
      world.kube.faults.delay({ pull: 0 })
      const done = await running.outcome
      expect(done, done.stderr).toMatchObject({ code: 0 })
      expect(done.stderr).toMatch(
        /✓ .*, commit \w{8}; (\d+) files moved, 0 skipped, [\d.]+ MB in [\d.]+ s \([^)]+B\/s\)$/m,
      )
      const { stages } = JSON.parse(done.stdout)
      expect(stages.at(-1).filesMoved).toBe(stages.at(-1).files)
      const again = await uploads.start('pulled').outcome
      expect(again.stderr).toMatch(/commit \w{8}; it was there already, nothing moved$/m)
    })

    test('a claim whose volume is gone: there is nothing to wait for', async () => {
      const [pv, claim] = [`${world.pv}-lost`, 'lost']
      await world.addVolume(pv)
      const bound = await world.run('fix-pvc', ['--pv', pv, '--pvc', claim])
      expect(bound, bound.stderr).toMatchObject({ code: 0 })
      world.kube.faults.pauseScheduler(true)
      const running = world.start('model-to-nfs', ['--model', idOf('lost'), '--pvc', claim, '--json'])
      try {
        await podOnce(world, jobOf('lost', 'download-nfs'), () => true)
        await world.kubectl(['delete', 'pv', pv, '--wait=false'])
        await world.kubectl(['patch', 'pv', pv, '--type=merge', '--patch={"metadata":{"finalizers":null}}'])
        await until(async () => (await world.object('pvc', claim))?.status.phase === 'Lost')
      } finally {
        world.kube.faults.pauseScheduler(false)
      }
      await expectSaidSoon({
        running,
        visible: async () => (await podsOf(world, jobOf('lost', 'download-nfs'))).some(isUnscheduled),
        says: /✗ .*PVC lost is Lost/,
      })
      await expectEnd(running, { code: 1, cause: 'claim-lost', last: [/PVC lost is Lost/, /fix-pvc/] })
    })

    test('what takes no pod: a quota, from the start, and a policy, at a retry', async () => {
      const why =
        'exceeded quota: small, requested: requests.memory=2Gi, used: requests.memory=0, limited: requests.memory=1Gi'
      world.kube.faults.refusePods(why)
      try {
        const running = uploads.start('quota', PATIENCE)
        await expectSaidSoon({
          running,
          visible: () => uploads.isRefused('quota'),
          says: /^ +the cluster refuses the Job's pods: .*exceeded quota: small/m,
        })
        await expectEnd(running, { code: 1, cause: 'pod-refused', last: [/exceeded quota: small/, /raise the quota/] })
      } finally {
        world.kube.faults.refusePods(undefined)
      }
      const { running, pod } = await uploads.startHeld('policy', PATIENCE)
      world.kube.faults.refusePods('admission webhook "images.example" denied the request: python is not allowed')
      try {
        world.kube.faults.killPod(world.namespace, pod.metadata.name)
        await running.says(/the Job tries again/)
        await expectSaidSoon({
          running,
          visible: () => uploads.isRefused('policy'),
          says: /the cluster refuses the Job's pods: admission webhook "images\.example" denied the request: python/,
        })
        await expectEnd(running, {
          code: 1,
          cause: 'pod-refused',
          last: [/python is not allowed/, /correct the policy/],
        })
      } finally {
        world.kube.faults.refusePods(undefined)
      }
    })

    test('a silent node is told of; a pod that cannot end on it ends the wait after the grace', async () => {
      const { running, pod } = await uploads.startHeld('node', PATIENCE)
      const node = pod.spec.nodeName ?? ''
      world.kube.faults.cutNode(node, { power: true })
      try {
        await expectSaidSoon({
          running,
          visible: async () => (await uploads.pods('node')).some(isUnready),
          says: new RegExp(`^ +node ${node} does not answer; pod \\S+ on it may or may not run on$`, 'm'),
        })
        world.kube.faults.evictFromNode(node)
        await expectSaidSoon({
          running,
          visible: async () =>
            (await uploads.pods('node')).some(({ metadata }) => metadata.deletionTimestamp !== undefined),
          says: /cannot end, for its node/,
        })
        const last: [RegExp, RegExp] = [
          /makes no other pod before it has ended/,
          /start node .* again.*delete its Node/,
        ]
        await expectEnd(running, { code: 1, cause: 'node-lost', last })
      } finally {
        uploads.open('node')
        world.kube.faults.restoreNode(node)
      }
      const again = await uploads.start('node').outcome
      expect(again, again.stderr).toMatchObject({ code: 0 })
    })
  })

  describe('a Job of which a dead pod is Terminating', () => {
    /** Makes the Job of the run as somebody would who replaces pods at once: ours waits for the end of the old one. */
    async function makeEager(name: string): Promise<void> {
      const shown = await uploads.start(name, ['--dry-run']).outcome
      expect(shown, shown.stderr).toMatchObject({ code: 0 })
      const { manifests } = JSON.parse(shown.stdout) as { manifests: string }
      for (const manifest of parseAllDocuments(manifests).map((document) => document.toJS())) {
        if (manifest.kind === 'Job') {
          delete manifest.spec.podFailurePolicy
          manifest.spec.podReplacementPolicy = 'TerminatingOrFailed'
        }
        await world.kubectl(['create', '-f', '-'], manifest)
      }
    }

    test('is done, and not Complete before that has ended', async () => {
      await makeEager('eager')
      const { running, pod } = await uploads.startHeld('eager', ['--grace', '600'])
      const node = pod.spec.nodeName ?? ''
      world.kube.faults.cutNode(node, { power: true })
      try {
        world.kube.faults.evictFromNode(node)
        uploads.open('eager')
        await expectSaidSoon({
          running,
          visible: async () => (await uploads.pods('eager')).some(({ status }) => status.phase === 'Succeeded'),
          says: new RegExp(`has done its work, but is not Complete while pod ${pod.metadata.name} is Terminating on`),
        })
      } finally {
        world.kube.faults.restoreNode(node)
      }
      const done = await running.outcome
      expect(done, done.stderr).toMatchObject({ code: 0 })
    })
  })

  describe.concurrent('side by side', () => {
    // Some run at a time, and these two wait the longest: begun last, they would be waited for alone.
    test('no progress: told, and not the end', async () => {
      const { running } = await uploads.startHeld('silent', PATIENCE)
      await expectSaidAfter(running, 20, /^ +pod \S+ has made no progress for 20 s, in phase \w+$/m)
      uploads.open('silent')
      const done = await running.outcome
      expect(done, done.stderr).toMatchObject({ code: 0 })
    })

    test('our own timeout: the Job goes on, and how to come back', async () => {
      const { running } = await uploads.startHeld('timeout', ['--timeout', '8'])
      await expectSaidAfter(running, 8, /✗ .*is not done after 8 s/)
      const said = await expectEnd(running, {
        code: 124,
        cause: 'timeout',
        last: [/is not done after 8 s/, /follow it again: \S*\/scripts\/model-to-spaces\.mts --model acme\/timeout/],
      })
      expect(said).toMatch(/goes on in the cluster; to stop it: kubectl .*delete job/)
      expect((await world.object('job', jobOf('timeout')))?.status.conditions ?? []).toEqual([])
      uploads.open('timeout')
    })

    test('an image that cannot be pulled', async () => {
      const running = uploads.start('image', [], { MOVER_IMAGE: 'registry.invalid/no-such:1' })
      await expectSaidSoon({
        running,
        visible: async () => (await uploads.pods('image')).some(waitsFor('ErrImagePull', 'ImagePullBackOff')),
        says: /✗ .*image registry\.invalid\/no-such:1 cannot be pulled/,
      })
      await expectEnd(running, { code: 1, cause: 'image-pull', last: [/cannot be pulled/, /--image.*--restart/] })
    })

    test('a claim that is Pending', async () => {
      await world.kubectl(['create', '-f', '-'], claimOfNobody('pending'))
      const args = ['--model', idOf('pending'), '--pvc', 'pending', '--json', ...PATIENCE]
      const running = world.start('model-to-nfs', args)
      await expectSaidSoon({
        running,
        visible: async () => (await podsOf(world, jobOf('pending', 'download-nfs'))).some(isUnscheduled),
        says: /^ +pod \S+ waits for its PVC: .*unbound/m,
      })
      await expectEnd(running, { code: 1, cause: 'claim-pending', last: [/unbound/, /fix-pvc/] })
    })

    test('a volume that cannot be mounted', async () => {
      const pv = `${world.pv}-nowhere`
      await world.addVolume(pv, { hostPath: { path: `${world.dir}/nowhere`, type: 'Directory' } })
      const bound = await world.run('fix-pvc', ['--pv', pv, '--pvc', 'nowhere'])
      expect(bound, bound.stderr).toMatchObject({ code: 0 })
      const args = ['--model', idOf('mount'), '--pvc', 'nowhere', '--json', ...PATIENCE]
      const running = world.start('model-to-nfs', args)
      await expectSaidSoon({
        running,
        visible: async () => (await eventsOf(world, 'FailedMount', jobOf('mount', 'download-nfs'))).length > 0,
        says: /^ +pod \S+ cannot mount its volume: /m,
      })
      await expectEnd(running, { code: 1, cause: 'mount', last: [/cannot mount its volume/, /mount options/] })
    })

    test('a pod killed at its memory limit: the last cause, not the limit of retries', async () => {
      const { running, pod } = await uploads.startHeld('oom')
      await uploads.patchJob('oom', { backoffLimit: 0 })
      world.kube.faults.killPod(world.namespace, pod.metadata.name, 'OOMKilled')
      await expectSaidSoon({ running, visible: () => uploads.podHasFailed('oom'), says: /✗ .*memory limit of 3Gi/ })
      const said = await expectEnd(running, {
        code: 1,
        cause: 'out-of-memory',
        last: [/memory limit of 3Gi/, /--memory.*--buffer/],
      })
      expect(said).not.toContain('BackoffLimitExceeded')
    })

    test('an evicted pod, and of what its node was short', async () => {
      const { running, pod } = await uploads.startHeld('evicted')
      await uploads.patchJob('evicted', { backoffLimit: 0 })
      const message = 'The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 512Mi. '
      world.kube.faults.evictPod(world.namespace, pod.metadata.name, message)
      await expectSaidSoon({
        running,
        visible: () => uploads.podHasFailed('evicted'),
        says: /✗ .*was evicted from node/,
      })
      await expectEnd(running, {
        code: 1,
        cause: 'evicted',
        last: [/low on resource: ephemeral-storage/, /free ephemeral-storage on the node/],
      })
    })

    test('a deleted pod: told with the retry, and the Job goes on', async () => {
      const { running, pod } = await uploads.startHeld('deleted')
      await world.kubectl(['delete', 'pod', pod.metadata.name, '--wait=false'])
      await expectSaidSoon({
        running,
        visible: async () =>
          !(await uploads.pods('deleted')).some(({ metadata: { name } }) => name === pod.metadata.name),
        says: /pod \S+ was deleted; what it had moved is kept; the Job tries again/,
      })
      uploads.open('deleted')
      const done = await running.outcome
      expect(done, done.stderr).toMatchObject({ code: 0 })
      expect(done.stderr).toMatch(/files moved, .*, by the last of 2 pods$/m)
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
      const said = await expectEnd(running, { code: 1, cause: 'deadline', last: [/deadline/, /run the same command/] })
      expect(said, 'no retry is announced').not.toContain('tries again')
    })

    test("the mover's own words; under --quiet with its last lines", async () => {
      const running = uploads.start('nowhere', ['--quiet'])
      await expectSaidSoon({ running, visible: () => uploads.podHasFailed('nowhere'), says: /✗ .*acme\/nowhere/ })
      const said = await expectEnd(running, { code: 1, cause: 'no-model', last: [/acme\/nowhere/, /id|token/] })
      expect(said.match(/acme\/nowhere/g), 'said once').toHaveLength(1)
    })
  })
})
