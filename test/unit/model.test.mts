import { expect, test } from 'vitest'
import { smallModel } from '../local/model.mts'

const body = (model: ReturnType<typeof smallModel>, path: string) =>
  model.files.find((file) => file.path === path)?.body as Buffer
const SHARD = 'model-00001-of-00002.safetensors'

test('a seed gives the same model again, another seed another one', () => {
  expect(smallModel({ shardSize: 1000 })).toEqual(smallModel({ shardSize: 1000 }))
  const other = smallModel({ shardSize: 1000, seed: 'second' })
  expect(body(other, SHARD)).not.toEqual(body(smallModel({ shardSize: 1000 }), SHARD))
})

test('shards are safetensors files of the asked size', () => {
  const shard = body(smallModel({ shardSize: 1000 }), SHARD)
  const header = Number(shard.readBigUInt64LE())
  const { weight } = JSON.parse(shard.subarray(8, 8 + header).toString())
  expect([shard.length, weight.data_offsets]).toEqual([1000, [0, 1000 - 8 - header]])
})
