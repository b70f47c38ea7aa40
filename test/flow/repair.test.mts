import { readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { smallModel } from '../local/model.mts'
import { createWorld, type World } from '../local/world.mts'
import { type Evidence, expectStaged } from './proof.mts'

const model = smallModel({ id: 'acme/damaged' })
const SHARD = 'model-00001-of-00002.safetensors'
let world: World
let evidence: Evidence

beforeAll(async () => {
  world = await createWorld({ models: [model] })
  const done = await world.run('setup-model', ['--model', model.id])
  expect(done, done.stderr).toMatchObject({ code: 0 })
  evidence = await expectStaged(world, model)
  // Evidence of a branch that has moved on since: mending is no update.
  await world.hub.push(smallModel({ id: model.id, seed: 'second' }))
})
afterAll(() => world?.close())

afterEach(async () => {
  const left = await world.list('jobs,pods', { labels: 'app.kubernetes.io/part-of' })
  const names = left.map(({ metadata }) => metadata.name).join(' ')
  expect(names, 'Jobs that only look are gone').not.toContain('verify')
  expect(await expectStaged(world, model), 'mended to the last byte').toEqual(evidence)
})

async function verify(code: number, ...args: string[]): Promise<string> {
  const done = await world.run('verify', ['--model', model.id, ...args])
  expect(done, done.stdout + done.stderr).toMatchObject({ code })
  return done.stdout
}

const sizeOf = (name: string) => evidence.files.find((file) => file.path === name)?.size ?? 0

function flipped(bytes: Uint8Array): Buffer {
  const damaged = Buffer.from(bytes)
  const middle = damaged.length >> 1
  damaged.writeUInt8(damaged.readUInt8(middle) ^ 1, middle)
  return damaged
}

describe('the volume', () => {
  const file = (name: string) => path.join(world.volume, model.id, name)

  test('bytes that rotted in place are found by their hashes, and --repair moves those files alone', async () => {
    for (const name of [SHARD, 'config.json']) await writeFile(file(name), flipped(await readFile(file(name))))
    await verify(0, '--level', 'names')
    const said = await verify(1, '--level', 'hashes')
    expect(said).toContain(`wrong: config.json, ${SHARD}`)
    expect(said).toMatch(/✗ verdict +acme\/damaged is not proved to be staged: files/)

    const before = world.moved
    expect(await verify(0, '--repair', '--level', 'hashes')).toContain('SHA-256 agree')
    expect(world.moved).toEqual({
      ...before,
      outOfBucket: before.outOfBucket + sizeOf(SHARD) + sizeOf('config.json'),
    })
  })

  test('as the mover says it: make model-to-nfs ARGS=--repair', async () => {
    await writeFile(file(SHARD), flipped(await readFile(file(SHARD))))
    const done = await world.run('make', ['model-to-nfs', `MODEL=${model.id}`, 'ARGS=--repair'])
    expect(done, done.stderr).toMatchObject({ code: 0 })
  })

  test('a list that was cut says so', async () => {
    const strangers = Array.from({ length: 15 }, (_, i) => `stranger-${String(i).padStart(2, '0')}`)
    for (const name of strangers) await writeFile(file(name), 'not ours')
    expect(await verify(0)).toMatch(/not in the evidence: stranger-00, .*stranger-11 and 3 more$/m)
    for (const name of strangers) await rm(file(name))
  })
})

describe('the bucket', () => {
  const key = (name: string) => `models/${model.id}/${name}`
  const bucket = () => world.spaces.bucket(world.bucket.name)

  test('is asked the same question', async () => {
    const said = await verify(0, '--spaces', '--level', 'hashes')
    expect(said).toMatch(/✓ files +12 files, .*SHA-256 agree with the evidence in Spaces$/m)
    expect(said).toMatch(/✓ verdict +acme\/damaged is in Spaces$/m)
    expect(said).not.toContain('claim')
  })

  test('objects replaced by others of their size are found by their hashes, and --repair moves those alone', async () => {
    for (const name of [SHARD, 'config.json'])
      bucket().replace(key(name), flipped((await world.bucket.get(key(name))) as Buffer))
    await verify(0, '--spaces', '--level', 'names')
    expect(await verify(1, '--spaces', '--level', 'hashes')).toContain(`wrong: config.json, ${SHARD}`)

    const before = world.moved
    await verify(0, '--spaces', '--repair')
    const { fromHub, intoBucket } = world.moved
    const bad = sizeOf(SHARD) + sizeOf('config.json')
    // Redirects and the documents of multipart uploads add some hundred bytes.
    for (const moved of [fromHub - before.fromHub, intoBucket - before.intoBucket]) {
      expect(moved).toBeGreaterThanOrEqual(bad)
      expect(moved).toBeLessThan(bad + 2000)
    }
  })

  test('a missing, a cut and an unknown object are named; make model-to-spaces ARGS=--repair mends', async () => {
    await world.bucket.remove(key('tokenizer.json'))
    bucket().replace(key(SHARD), 'cut')
    bucket().replace(key('stranger.bin'), 'not ours')
    const said = await verify(1, '--spaces')
    expect(said).toContain(`missing: tokenizer.json; wrong: ${SHARD}; unknown: stranger.bin`)
    expect(said).toMatch(/\/scripts\/model-to-spaces\.mts --model acme\/damaged .*; with --repair it trusts no object/)
    expect(await verify(1, '--spaces', '--level', 'names')).not.toContain(`wrong: ${SHARD}`)

    const done = await world.run('make', ['model-to-spaces', `MODEL=${model.id}`, 'ARGS=--repair'])
    expect(done, done.stderr).toMatchObject({ code: 0 })
    expect(await verify(0, '--spaces'), 'what nobody knows is left, and said').toContain('stranger.bin')
    await world.bucket.remove(key('stranger.bin'))
  })
})
