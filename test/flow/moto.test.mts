import { afterAll, beforeAll, expect, test } from 'vitest'
import { smallModel } from '../local/model.mts'
import { createWorld, type World } from '../local/world.mts'
import { expectStaged } from './proof.mts'

// Another S3 server than ours: what ours and the mover had both misread would show here.
const model = smallModel({ id: 'acme/elsewhere', shardSize: 17_000_000 })
let world: World

beforeAll(async () => {
  world = await createWorld({ models: [model], s3: 'moto' })
})
afterAll(() => world?.close())

test('a model with objects of several parts is staged through moto', async () => {
  const done = await world.run('setup-model', ['--model', model.id])
  expect(done, done.stderr).toMatchObject({ code: 0 })
  await expectStaged(world, model)
})
