import path from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { python, real } from '../local/cluster.mts'
import { smallModel } from '../local/model.mts'
import { createWorld, type KubeObject, type World } from '../local/world.mts'
import { isRunning, podOnce, podsOf } from './failing.mts'
import { held, heldUploads } from './held.mts'
import { lastLine } from './proof.mts'

const model = smallModel({ id: 'acme/shared' })
const JOB = 'model-upload-spaces-acme--shared'
let world: World

beforeAll(async () => {
  world = await createWorld({ models: [model] })
})
afterAll(() => world?.close())
heldUploads(() => world)

const upload = (...args: string[]) => world.start('model-to-spaces', ['--model', model.id, ...args])
const job = async () => (await world.object('job', JOB)) as KubeObject

async function expectRunning(): Promise<void> {
  expect((await job()).status.conditions ?? [], 'the Job goes on').toEqual([])
}

test('a second terminal shows the same Job, its log and its end', async () => {
  const first = upload()
  await held.arrived
  const second = upload()
  await second.says(/running already with these settings: joined/)
  await second.says(/^ +\d+ % /m)
  held.open()
  const [one, other] = await Promise.all([first.outcome, second.outcome])
  expect(one, one.stderr).toMatchObject({ code: 0 })
  expect(other, other.stderr).toMatchObject({ code: 0 })
  expect(lastLine(other.stderr)).toBe(lastLine(one.stderr))
  expect(other.stdout).toBe(one.stdout)
})

test('two people who start at the same moment share one Job', async () => {
  held.open()
  const before = world.moved
  const both = await Promise.all([upload().outcome, upload().outcome])
  for (const done of both) expect(done, done.stderr).toMatchObject({ code: 0 })
  const said = both.map(({ stderr }) => /Job \S+ (started|is running already.*joined)$/m.exec(stderr)?.[1])
  expect(
    said.filter((word) => word === 'started'),
    'one of them has started it',
  ).toHaveLength(1)
  expect(await podsOf(world, JOB)).toHaveLength(1)
  const size = world.moved.intoBucket - before.intoBucket
  expect(world.moved.fromHub - before.fromHub, 'moved once').toBeLessThan(1.5 * size)
})

test('Ctrl-C at a terminal reaches kubectl too: no child survives, and how to come back is said last', async () => {
  const command = ['scripts/model-to-spaces.mts', '--model', model.id]
  const terminal = ['test/local/terminal.py', ' %  ', '\u0003', ...command]
  const left = world.start(`${python}/python`, terminal)
  const done = await left.outcome
  expect(done, done.stdout).toMatchObject({ code: 130 })
  expect(done.stdout).toMatch(
    /✗\S* to Spaces +interrupted by SIGINT\r?\n +Job \S+ goes on in the cluster;\s+to\s+stop\s+it:\s+kubectl .*delete job/,
  )
  expect(lastLine(done.stdout)).toContain(`${path.resolve(command.join(' '))} --context ${world.context} `)
  expect(await left.survivors()).toEqual([])
  await expectRunning()
})

test('a closed pipe leaves the Job running and no child behind', async () => {
  // Until the Job runs, there is none to leave.
  const pipe = `scripts/model-to-spaces.mts --model ${model.id} 2>&1 | grep -m1 'runs on'; echo "code $PIPESTATUS"`
  const left = world.start('bash', ['-c', pipe])
  const done = await left.outcome
  expect(done.stdout).toMatch(/code 130$/m)
  expect(await left.survivors()).toEqual([])
  await expectRunning()
})

test('an API that is away for a while is said once and ridden out, and the log goes on where it was', async () => {
  if (real) return
  const running = upload()
  await held.arrived
  await running.says(/pod \S+ runs on/)
  await world.kube.stopApi()
  try {
    await running.says(/does not answer: .*trying on/)
    held.open()
  } finally {
    await world.kube.startApi()
  }
  const done = await running.outcome
  expect(done, done.stderr).toMatchObject({ code: 0 })
  expect(done.stderr.match(/trying on/g)).toHaveLength(1)
  expect(done.stderr.match(/the cluster answers again/g)).toHaveLength(1)
  const log = done.stderr.split('\n').filter((line) => /^ {13}/.test(line) && !line.includes(' % '))
  expect(log.length, 'no line twice').toBe(new Set(log).size)
})

test('a pod that a retry replaces: its log, the cause, and the next one are told in this order', async () => {
  if (real) return
  const running = upload()
  await held.arrived
  const { metadata } = await podOnce(world, JOB, isRunning)
  world.kube.faults.killPod(world.namespace, metadata.name, 'OOMKilled')
  await running.says(/pod \S+ was killed at its memory limit of 3Gi; the Job tries again/)
  held.open()
  const done = await running.outcome
  expect(done, done.stderr).toMatchObject({ code: 0 })
  expect(done.stderr).toMatch(/(runs|starts) on.*; the Job tries again.*(runs|starts) on.*✓ to Spaces/s)
})
