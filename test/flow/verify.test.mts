import { rm, truncate, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { smallModel } from '../local/model.mts'
import { createWorld, type World } from '../local/world.mts'
import { lastLine } from './proof.mts'

const model = smallModel({ id: 'acme/checked' })
let world: World
let folder: string

beforeAll(async () => {
  world = await createWorld({ models: [model, smallModel({ id: 'acme/other' })] })
  folder = path.join(world.volume, model.id)
  const done = await world.run('setup-model', ['--model', model.id])
  expect(done, done.stderr).toMatchObject({ code: 0 })
})
afterAll(() => world?.close())

afterEach(async () => {
  const left = () => world.kubectl(['get', 'jobs,pods', '-l', 'app.kubernetes.io/name=model-verify-nfs', '-o', 'name'])
  await expect.poll(left, { timeout: 60_000, message: 'the verify Job and its pod are gone' }).toBe('')
})

async function verify(...args: string[]): Promise<{ code: number | null; said: string; next: string }> {
  const { code, stdout, stderr } = await world.run('verify', ['--model', model.id, ...args])
  return { code, said: stdout + stderr, next: lastLine(stderr) }
}

test('a staged model passes its three checkpoints', async () => {
  const { code, said } = await verify()
  expect(code, said).toBe(0)
  expect(said).toContain(world.pvc)
})

test('a missing file, a wrong size and an unknown file are named', async () => {
  const shard = path.join(folder, 'model-00001-of-00002.safetensors')
  await rm(path.join(folder, 'config.json'))
  await truncate(shard, 1000)
  await writeFile(path.join(folder, 'stranger.bin'), 'not ours')
  const broken = await verify()
  expect(broken.code, broken.said).toBe(1)
  for (const name of ['config.json', 'model-00001-of-00002.safetensors', 'stranger.bin'])
    expect(broken.said).toContain(name)
  expect(broken.said).toMatch(/setup-model|model-to-nfs/)

  const mended = await world.run('setup-model', ['--model', model.id])
  expect(mended, mended.stderr).toMatchObject({ code: 0 })
  const { code, said } = await verify()
  expect(code, said).toBe(0)
  expect(said, 'a file nobody knows is left, and reported').toContain('stranger.bin')
  await rm(path.join(folder, 'stranger.bin'))
})

test('no evidence on the volume', async () => {
  const evidence = path.join(folder, '.download-complete')
  await rm(evidence)
  const { code, said } = await verify()
  expect(code, said).toBe(1)
  expect(said).toMatch(/model-to-nfs|setup-model/)
  const mended = await world.run('model-to-nfs', ['--model', model.id])
  expect(mended, mended.stderr).toMatchObject({ code: 0 })
})

test('a claim that is not there', async () => {
  const done = await world.run('verify', ['--model', model.id], { env: { MODEL_PVC: 'no-such-claim' } })
  expect(done).toMatchObject({ code: 1 })
  expect(done.stdout + done.stderr).toContain('no-such-claim')
  expect(done.stdout + done.stderr).toContain('fix-pvc')
})

test('the last run of a hop failed: its cause is said', async () => {
  const failed = await world.run('model-to-spaces', ['--model', model.id, '--revision', 'no-such-branch'])
  expect(failed, failed.stderr).toMatchObject({ code: 1 })
  const { code, said } = await verify()
  expect(code, said).toBe(1)
  expect(said).toMatch(/last run of model-upload-spaces-acme--checked failed: .*no-such-branch/)
  expect(said).toContain('model-to-spaces')

  const mended = await world.run('model-to-spaces', ['--model', model.id])
  expect(mended, mended.stderr).toMatchObject({ code: 0 })
})

test('Ctrl-C leaves no verify Job and no child behind', async () => {
  const running = world.start('verify', ['--model', model.id])
  await running.says(/reads the volume/)
  running.signal('SIGINT')
  const left = await running.outcome
  expect(left, left.stderr).toMatchObject({ code: 130 })
  expect(await running.survivors()).toEqual([])
})
