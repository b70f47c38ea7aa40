import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { real } from '../local/cluster.mts'
import { gate } from '../local/faults.mts'
import type { HubRequest } from '../local/hub.mts'
import { smallModel } from '../local/model.mts'
import { createWorld, type KubeObject, type World } from '../local/world.mts'

const model = smallModel({ id: 'acme/jobs' })
const VERIFY = 'model-verify-nfs-acme--jobs'
let world: World

beforeAll(async () => {
  world = await createWorld({ models: [model] })
  const staged = await world.run('setup-model', ['--model', model.id])
  expect(staged, staged.stderr).toMatchObject({ code: 0 })
})
afterAll(() => world?.close())
afterEach(async () => {
  world.hub.faults.clear()
  if (!real) world.kube.deny()
  await world.kubectl(['delete', 'jobs', '--all', '--cascade=foreground'])
})

const uidOf = async (name: string) => (await world.object<KubeObject>('job', name))?.metadata.uid
const setup = (...args: string[]) => world.start('setup-model', ['--model', model.id, ...args])
const verify = (...args: string[]) => world.start('verify', ['--model', model.id, ...args])

/** A verify Job of somebody else that does not end: it asks for an image that takes its time. */
async function otherVerify(level: string): Promise<string> {
  const rendered = await world.run('verify', ['--model', model.id, '--level', level, '--dry-run', '--quiet'])
  expect(rendered, rendered.stderr).toMatchObject({ code: 0 })
  const slow = rendered.stdout
    .replace('"/mover/mover.py"', '"-c"')
    .replace('"verify"', '"import time; time.sleep(600)"')
  await world.run('kubectl', ['--context', world.context, 'create', '-f', '-'], { input: slow })
  return (await uidOf(VERIFY)) ?? ''
}

test('a memory limit that the server writes in its own way is the one that was asked for', async () => {
  const held = gate<HubRequest>()
  for (const key of await world.bucket.keys()) await world.bucket.remove(key)
  world.hub.faults.add({ match: ({ server }) => server === 'cdn', act: held.act })
  const upload = (memory: string) => world.start('model-to-spaces', ['--model', model.id, '--memory', memory])
  const first = upload('2048Mi')
  await held.arrived
  const second = upload('2Gi')
  await second.says(/running already with these settings: joined/)
  held.open()
  for (const done of await Promise.all([first.outcome, second.outcome]))
    expect(done, done.stderr).toMatchObject({ code: 0 })
})

test('an API that is away between the hops is ridden out', async () => {
  if (real) return
  const running = setup()
  await running.says(/✓ to Spaces/)
  await world.kube.stopApi()
  try {
    await running.says(/does not answer: .*trying on/)
  } finally {
    await world.kube.startApi()
  }
  const done = await running.outcome
  expect(done, done.stderr).toMatchObject({ code: 0 })
  expect(done.stderr).toMatch(/the cluster answers again.*✓ to NFS/s)
})

test('an errand that is refused, or only joined a Job, leaves it running', async () => {
  const uid = await otherVerify('hashes')
  const refused = await verify().outcome
  expect(refused, refused.stderr).toMatchObject({ code: 1 })
  expect(refused.stdout).toContain('LEVEL is hashes there, sizes here')
  expect(await uidOf(VERIFY)).toBe(uid)

  const joining = verify('--level', 'hashes')
  await joining.says(/is running already: joined/)
  joining.signal('SIGINT')
  expect((await joining.outcome).code).toBe(130)
  expect(await uidOf(VERIFY)).toBe(uid)
})

test('who has only joined an errand reads its end too, whoever made the Job', async () => {
  const both = await Promise.all([verify('--level', 'hashes').outcome, verify('--level', 'hashes').outcome])
  for (const done of both) expect(done, done.stderr).toMatchObject({ code: 0 })
})

test('who may not patch Jobs joins like everybody else', async () => {
  if (real) return
  world.kube.deny({ verbs: ['patch'], resources: ['jobs'] })
  const both = await Promise.all([setup().outcome, setup().outcome])
  for (const done of both) expect(done, done.stderr).toMatchObject({ code: 0 })
})

test('a Released volume that may not be freed: said before anything is done', async () => {
  if (real) return
  const env = { MODEL_PV: `${world.pv}-released`, MODEL_PVC: 'released' }
  await world.addVolume(env.MODEL_PV)
  const bound = await world.run('fix-pvc', [], { env })
  expect(bound, bound.stderr).toMatchObject({ code: 0 })
  await world.kubectl(['delete', 'pvc', env.MODEL_PVC])
  world.kube.deny({ verbs: ['patch'], resources: ['persistentvolumes'] })
  const denied = await world.run('fix-pvc', [], { env })
  expect(denied, denied.stderr).toMatchObject({ code: 1 })
  expect(denied.stderr).toMatch(/^✗ preflight .*patch persistentvolumes/m)
  world.kube.deny()
  const done = await world.run('fix-pvc', [], { env })
  expect(done, done.stderr).toMatchObject({ code: 0 })
  expect(done.stderr).toContain('its stale claimRef is removed')
})
