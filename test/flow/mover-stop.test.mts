import { rm, stat } from 'node:fs/promises'
import { describe, expect } from 'vitest'
import { answer, gate, reads, stall } from '../local/faults.mts'
import type { HubRequest } from '../local/hub.mts'
import { seededBytes } from '../local/model.mts'
import type { SpacesRequest } from '../local/spaces.mts'
import { hubReads, impatient, type Mover, spacesReads, test } from './mover.mts'

const model = {
  id: 'acme/stopped',
  files: [
    { path: 'config.json', body: seededBytes('config', 2000) },
    { path: 'model.safetensors', body: seededBytes('model', 6_000_000) },
  ],
}
const isApi = ({ path }: HubRequest) => path.startsWith('/api/models/')

/** Sends SIGTERM, and demands that the pod ends within its grace period, says why, and keeps what it has. */
async function stop(mover: Mover): Promise<void> {
  const asked = Date.now()
  mover.kill('SIGTERM')
  const end = await mover.end
  expect(end, end.log).toMatchObject({ code: 143, message: { state: 'failed', cause: 'stopped' } })
  expect(end.log).not.toContain('Traceback')
  expect(Date.now() - asked, 'milliseconds').toBeLessThan(15_000)
}

/** A server that never answers the requests of a kind; `arrived` tells when the first one stands before it. */
type Held = { arrived: Promise<unknown> }

describe.concurrent('SIGTERM ends hop 1, and the next pod goes on', () => {
  const rows: [
    string,
    (hub: (match: (r: HubRequest) => boolean) => Held, spaces: (match: (r: SpacesRequest) => boolean) => Held) => Held,
  ][] = [
    ['while the Hub is asked', (hub) => hub(isApi)],
    ['while Spaces is asked', (_, spaces) => spaces(({ operation }) => operation === 'ListObjects')],
    ['while a small file comes', (hub) => hub(hubReads(model, 'config.json'))],
    ['while a large file comes', (hub) => hub(hubReads(model, 'model.safetensors'))],
    ['while a part is stored', (_, spaces) => spaces(({ operation }) => operation === 'UploadPart')],
    ['while parts are joined', (_, spaces) => spaces(({ operation }) => operation === 'CompleteMultipartUpload')],
    [
      'while the evidence is written',
      (_, spaces) => spaces(({ operation, key }) => operation === 'PutObject' && key.endsWith('/.upload-complete')),
    ],
  ]
  test.for(rows)('%s', async ([, choose], { newRig }) => {
    const rig = await newRig({ models: [model] })
    const { arrived } = choose(
      (match) => {
        const held = gate<HubRequest>()
        rig.hub.faults.add({ match, times: 1, act: held.act })
        return held
      },
      (match) => {
        const held = gate<SpacesRequest>()
        rig.spaces.faults.add({ match, times: 1, act: held.act })
        return held
      },
    )
    const mover = rig.startMover('upload')
    await arrived
    await stop(mover)
    rig.expectNotUploaded()
    await rig.mustRun('upload')
    await rig.expectUploaded(model)
  })

  test('while it waits for a server to come back', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.hub.faults.add({ match: isApi, times: 1, act: answer(429, { 'retry-after': '300' }) })
    const mover = rig.startMover('upload')
    await mover.says(/retry 1/)
    await stop(mover)
    await rig.mustRun('upload')
  })

  test('while an object is read back', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    rig.putObject('.upload-complete', '', 50)
    const held = gate<SpacesRequest>()
    rig.spaces.faults.add({ match: spacesReads('model.safetensors'), times: 1, act: held.act })
    const mover = rig.startMover('upload')
    await held.arrived
    await stop(mover)
    await rig.mustRun('upload')
    await rig.expectUploaded(model)
  })
})

describe.concurrent('SIGTERM ends hop 2, and the next pod goes on', () => {
  test.for(['config.json', 'model.safetensors'])('while %s comes', async (name, { newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const held = gate<SpacesRequest>()
    rig.spaces.faults.add({ match: spacesReads(name), times: 1, act: held.act })
    const mover = rig.startMover('download')
    await held.arrived
    await stop(mover)
    await rig.expectNotDownloaded()
    await rig.mustRun('download')
    await rig.expectDownloaded(model)
  })

  test('what has come is kept', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    const weights = rig.stage(model).files.find(({ path }) => path === 'model.safetensors')
    const held = gate<SpacesRequest>()
    const match = (request: SpacesRequest) => spacesReads('model.safetensors')(request) && reads(request, 5_900_000)
    rig.spaces.faults.add({ match, times: 1, act: held.act })
    const mover = rig.startMover('download')
    await held.arrived
    const partial = rig.file(`model.safetensors.${weights?.sha256.slice(0, 8)}.partial`)
    await expect.poll(async () => (await stat(partial)).size, { timeout: 60_000 }).toBe(5 << 20)
    await stop(mover)
    rig.moved()
    await rig.mustRun('download')
    expect(rig.moved().outOfBucket, 'bytes that are asked for again').toBe(6_000_000 - (5 << 20))
    await rig.expectDownloaded(model)
  })

  test('while files are hashed', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    await rig.mustRun('download')
    await rm(rig.file('.download-complete'))
    // A disk that takes its time, a little for every chunk.
    const patch = `
import os, time
real = os.preadv
def slow(*args):
    print("reading", flush=True)
    time.sleep(0.5)
    return real(*args)
os.preadv = slow`
    for (const verb of ['download', 'verify'] as const) {
      const mover = rig.startMover(verb, { patch, env: { LEVEL: 'hashes' } })
      await mover.says(/reading/)
      await stop(mover)
      if (verb === 'download') await rig.mustRun('download')
    }
    await rig.expectDownloaded(model)
  })

  test('while a silent server is waited for', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    rig.spaces.faults.add({ match: spacesReads('model.safetensors'), times: 2, act: stall(1000) })
    const mover = rig.startMover('download')
    await mover.says(/files 1\/2 phase moving|phase moving/)
    await stop(mover)
    // The next pod meets a silent server too, and does not wait the minute that it would in a cluster.
    await rig.mustRun('download', { patch: impatient(3) })
    await rig.expectDownloaded(model)
  })
})
