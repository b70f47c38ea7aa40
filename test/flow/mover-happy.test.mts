import { afterAll, beforeAll, expect, test } from 'vitest'
import { mixedModel, type Rig, startRig } from './mover.mts'

const model = mixedModel()
let rig: Rig

beforeAll(async () => {
  rig = await startRig({ models: [model] })
})
afterAll(() => rig?.close())

test('both hops, and a second run of both that moves nothing', async () => {
  const up = await rig.mustRun('upload')
  await rig.expectUploaded(model)
  expect(up.message).toMatchObject({ files: 5, bytes: 18_032_000, moved: 18_032_000 })
  await rig.mustRun('download')
  await rig.expectDownloaded(model)
  rig.moved()
  await rig.mustRun('upload')
  await rig.mustRun('download')
  expect(rig.moved()).toEqual({ fromHub: 0, intoBucket: 0, outOfBucket: 0 })
})
