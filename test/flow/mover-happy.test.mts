import { afterAll, beforeAll, expect, test } from 'vitest'
import { gate } from '../local/faults.mts'
import type { HubRequest } from '../local/hub.mts'
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

test('it says how far it is every ten seconds, also while nothing moves', async () => {
  const held = gate<HubRequest>()
  rig.hub.faults.add({ match: ({ path }) => path.startsWith('/api/models/'), act: held.act })
  // Its own ten seconds in a fraction of one.
  const patch = 'import progress; print("every", progress.STEADY_SECONDS); progress.STEADY_SECONDS /= 100'
  const mover = rig.startMover('upload', { patch })
  const [, seconds] = await mover.says(/^every ([\d.]+)$/m)
  expect(Number(seconds)).toBeLessThanOrEqual(10)
  await held.arrived
  await mover.says(/(^progress 0% 0\/0 B .* phase planning\n){4}/m)
  held.open()
  expect(await mover.end).toMatchObject({ code: 0 })
})
