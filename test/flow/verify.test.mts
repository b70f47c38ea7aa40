import { readFile, rm, truncate, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { python } from '../local/cluster.mts'
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
  const left = () => world.list('jobs,pods', { labels: 'app.kubernetes.io/name=model-verify-nfs' })
  await expect.poll(left, { timeout: 60_000, message: 'the verify Job and its pod are gone' }).toEqual([])
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

test('on a narrow terminal the result is broken at words', async () => {
  const command = `stty cols 40; exec scripts/verify.mts --model ${model.id}`
  const terminal = [path.resolve('test/local/terminal.py'), 'no question', '', 'sh', '-c', command]
  const { code, stdout } = await world.run(path.join(python, 'python'), terminal)
  expect(code, stdout).toBe(0)
  const rows = stripVTControlCharacters(stdout).split('\r\n')
  const result = rows.slice(rows.findIndex((row) => row.startsWith('✓ claim')))
  expect(result).toContain('✓ verdict: acme/checked is staged')
  const long = result.filter((row) => row.length > 40 && /\S +\S/.test(row))
  expect(long, 'of several words').toEqual([])
  expect(result.length, 'more lines than checkpoints').toBeGreaterThan(6)
})

interface StageDocument {
  stage: string
  state: string
  seconds: number
}

/** The document of --json, held to what every one of them promises. */
async function documentOf(...args: string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await world.run('verify', ['--model', model.id, '--json', ...args])
  const document = JSON.parse(stdout) as Record<string, unknown> & { stages: StageDocument[]; state: string }
  expect(document.state, stderr).toBe(code === 0 ? 'done' : 'failed')
  expect(document.stages.at(-1), 'the last stage ended as the run did').toMatchObject({ state: document.state })
  expect(document.stage).toBe(document.stages.at(-1)?.stage)
  expect(document.seconds).toBeCloseTo(document.stages.reduce((sum, { seconds }) => sum + seconds, 0))
  return document
}

test('machines are told what was proved, what does not hold, and of a repair as a stage of its own', async () => {
  const evidence = JSON.parse(await readFile(path.join(folder, '.download-complete'), 'utf8'))
  const proved = { commit: evidence.commit, bytes: expect.any(Number) }
  expect(await documentOf()).toMatchObject({ ...proved, cause: null, detail: null, next: null })

  await rm(path.join(folder, 'config.json'))
  expect(await documentOf()).toMatchObject({
    cause: 'checkpoint-files',
    detail: expect.stringContaining('config.json'),
    next: expect.stringContaining('model-to-nfs'),
    commit: null,
    bytes: null,
  })

  const { stages, ...mended } = await documentOf('--repair')
  expect(mended).toMatchObject({ ...proved, stage: 'verify', cause: null })
  expect((stages as StageDocument[]).map(({ stage }) => stage)).toEqual(['preflight', 'to NFS', 'verify'])
})

test('where several checkpoints do not hold, machines and people are told the same way out', async () => {
  const { code, stdout, stderr } = await world.run('verify', ['--model', 'acme/other', '--json'])
  expect(code, stderr).toBe(1)
  expect(JSON.parse(stdout)).toMatchObject({ cause: 'checkpoint-files', next: lastLine(stderr).trim() })
  expect(lastLine(stderr)).toMatch(/\/scripts\/setup-model\.mts .*--model acme\/other/)
})

test.each([
  ['verify', []],
  ['verify', ['--json']],
  ['verify', ['--help']],
  ['slug', []],
])('a result that cannot be written is a failure: %s %j', async (script, args) => {
  const command = ['scripts', `${script}.mts`].join('/')
  const full = await world.run('sh', ['-c', '"$@" >/dev/full', 'sh', command, '--model', model.id, ...args])
  expect(full, full.stderr).toMatchObject({ code: 1 })
  expect(full.stderr).toMatch(/✗ +the result could not be written: ENOSPC/)
  const closed = await world.run('bash', [
    '-c',
    '"$@" | true; exit $PIPESTATUS',
    'sh',
    command,
    '--model',
    model.id,
    ...args,
  ])
  expect(closed, closed.stderr).toMatchObject({ code: 130 })
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
