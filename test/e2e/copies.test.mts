import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { expectStaged, filesBelow } from '../flow/proof.mts'
import { smallModel } from '../local/model.mts'
import { createWorld, type World } from '../local/world.mts'

// The stand-in's flows of `verify --repair` and `clean` in one go: that a real cluster lets their Jobs do the same.

const model = smallModel({ id: 'acme/kept' })
let world: World

beforeAll(async () => {
  world = await createWorld({ models: [model] })
})
afterAll(() => world?.close())

async function mustRun(script: string, ...args: string[]) {
  const done = await world.run(script, ['--model', model.id, ...args])
  expect(done, done.stdout + done.stderr).toMatchObject({ code: 0 })
  return done
}

test('verify --repair mends what has rotted, and clean removes both copies', async () => {
  await mustRun('setup-model')
  const evidence = await expectStaged(world, model)
  const file = path.join(world.volume, model.id, 'config.json')
  const bytes = await readFile(file)
  bytes.writeUInt8(bytes.readUInt8(7) ^ 1, 7)
  await writeFile(file, bytes)
  const before = world.moved
  expect((await mustRun('verify', '--repair', '--level', 'hashes')).stdout).toContain('SHA-256 agree')
  expect(world.moved, 'that file alone').toEqual({ ...before, outOfBucket: before.outOfBucket + bytes.length })
  expect(await expectStaged(world, model), 'mended to the last byte').toEqual(evidence)

  const { stdout } = await mustRun('clean', '--spaces', '--nfs', '--yes', '--json')
  const files = evidence.files.length
  expect(JSON.parse(stdout)).toMatchObject({ state: 'done', removed: { spaces: { files }, nfs: { files } } })
  expect(await world.bucket.keys('models/')).toEqual([])
  expect(await filesBelow(world.volume)).toEqual([])
  const left = await world.kubectl(['get', 'jobs,pods', '-o', 'name'])
  expect(left).toBe('')
})
