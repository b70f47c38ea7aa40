import { afterAll, beforeAll, expect, test } from 'vitest'
import { smallModel } from '../local/model.mts'
import { createWorld, type KubeObject, type World } from '../local/world.mts'
import { held, heldUploads } from './held.mts'

const model = smallModel({ id: 'Org/M.1' })
const twin = smallModel({ id: 'org/m-1' })
const JOB = 'model-upload-spaces-org--m-1'
let world: World

beforeAll(async () => {
  world = await createWorld({ models: [model, twin] })
  const done = await world.run('fix-pvc')
  expect(done, done.stderr).toMatchObject({ code: 0 })
})
afterAll(() => world?.close())
heldUploads(() => world)

const job = async () => (await world.object('job', JOB)) as KubeObject
const upload = (id: string, ...args: string[]) => world.start('model-to-spaces', ['--model', id, ...args])

test('Ctrl-C leaves the Job running and no child behind; the same command joins the Job again', async () => {
  const first = upload(model.id)
  await held.arrived
  first.signal('SIGINT')
  const left = await first.outcome
  expect(left, left.stderr).toMatchObject({ code: 130 })
  expect(left.stderr, 'how to come back').toMatch(/model-to-spaces/)
  expect(await first.survivors()).toEqual([])
  const { metadata, status } = await job()
  expect(status.conditions ?? []).toEqual([])

  const second = upload(model.id)
  await second.says(/running|join|attach/i)
  held.open()
  const done = await second.outcome
  expect(done, done.stderr).toMatchObject({ code: 0 })
  expect((await job()).metadata.uid, 'the same Job').toBe(metadata.uid)
})

test('SIGTERM and SIGHUP end a script as Ctrl-C does', async () => {
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) {
    const running = upload(model.id)
    await held.arrived
    await running.says(/\S/)
    running.signal(signal)
    const left = await running.outcome
    expect(left.code, left.stderr).toBe(130)
    expect(await running.survivors()).toEqual([])
  }
})

test('a running Job with other settings is left alone, both are named, and --restart replaces it', async () => {
  const first = upload(model.id)
  await held.arrived
  const { metadata } = await job()
  const refused = await upload(model.id, '--buffer', '64Mi').outcome
  expect(refused, refused.stderr).toMatchObject({ code: 1 })
  for (const said of ['256Mi', '64Mi', '--restart']) expect(refused.stderr).toContain(said)
  expect((await job()).metadata.uid).toBe(metadata.uid)
  first.signal('SIGINT')
  await first.outcome

  held.open()
  const replaced = await upload(model.id, '--buffer', '64Mi', '--restart').outcome
  expect(replaced, replaced.stderr).toMatchObject({ code: 0 })
  expect((await job()).metadata.uid).not.toBe(metadata.uid)
})

test('a model with the same slug never takes the Job of the other for its own', async () => {
  const first = upload(model.id)
  await held.arrived
  const { metadata } = await job()
  const other = upload(twin.id)
  await other.says(/Org\/M\.1/)
  expect((await job()).metadata.uid).toBe(metadata.uid)
  held.open()
  expect((await first.outcome).code).toBe(0)
  const { code, stderr } = await other.outcome
  // Refused, or waited for: then its own Job has run.
  if (code !== 1) {
    expect(code, stderr).toBe(0)
    expect((await job()).metadata.annotations).toMatchObject({ 'model-storage-pipeline/model': twin.id })
  }
  expect(await world.bucket.get(`models/${model.id}/.upload-complete`)).toBeDefined()
})

test('verify says that a Job of the model is running', async () => {
  const first = upload(model.id)
  await held.arrived
  const done = await world.run('verify', ['--model', model.id])
  expect(done, done.stderr).toMatchObject({ code: 1 })
  expect(done.stdout + done.stderr).toMatch(/running/)
  first.signal('SIGINT')
  await first.outcome
})
