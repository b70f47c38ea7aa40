import { stat } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { gate, runAfter, runBefore } from '../local/faults.mts'
import { parseRange } from '../local/http.mts'
import type { HubRepo } from '../local/hub.mts'
import { seededBytes } from '../local/model.mts'
import type { SpacesRequest } from '../local/spaces.mts'
import { ageUploads, emptyBucket, forks, journalOf, killAt, rig, useForks } from './kills.mts'
import { hubReads, spacesReads } from './mover.mts'

const MIB = 2 ** 20
const BUFFER = 32 * MIB
const PART = 5 * MIB
const SIZE = 80 * MIB

/** The second large file is more than twice the window. */
const model: HubRepo = {
  id: 'acme/economy',
  files: [
    { path: 'a.safetensors', body: seededBytes('a', 11 * MIB) },
    { path: 'b.safetensors', body: seededBytes('b', SIZE) },
    { path: 'config.json', body: seededBytes('config', 3000) },
    { path: 'tokenizer.model', body: seededBytes('tokenizer', 500_000), lfs: true },
  ],
}

useForks(model)

const storesPartOf =
  (name: string) =>
  ({ operation, key }: SpacesRequest): boolean =>
    operation === 'UploadPart' && key.endsWith(`/${name}`)

const joins =
  (name: string) =>
  ({ operation, key }: SpacesRequest): boolean =>
    operation === 'CompleteMultipartUpload' && key.endsWith(`/${name}`)

/** Bytes of b.safetensors that a run which starts now need not read again. */
async function journaled(): Promise<number> {
  const found = await journalOf(rig, 'b.safetensors')
  return found ? Math.min(SIZE, found.journal.etags.length * found.journal.part_size) : 0
}

test('hop 1 never reads further ahead of its journal than the window, even when a part does not get on', async () => {
  const readsB = hubReads(model, 'b.safetensors')
  let asked = 0
  let ahead = 0
  rig.hub.faults.add({
    match: readsB,
    act: runBefore(async (request) => {
      const range = parseRange(request.range, SIZE)
      asked += range ? range.end - range.start : SIZE
      ahead = Math.max(ahead, asked - (await journaled()))
    }),
  })
  const stuck = gate<SpacesRequest>()
  rig.spaces.faults.add({ match: storesPartOf('b.safetensors'), times: 1, act: stuck.act })
  // All slots but the one of the part that is stuck come through before it gets on.
  let stored = 0
  rig.spaces.faults.add({
    match: storesPartOf('b.safetensors'),
    act: async ({ carryOut }) => {
      const answer = await carryOut()
      stored += 1
      if (stored === Math.floor(BUFFER / PART) - 1) stuck.open()
      return answer
    },
  })
  await forks.mustRun('upload')
  await rig.expectUploaded(model)
  expect(asked).toBe(SIZE)
  expect(ahead).toBeLessThanOrEqual(BUFFER)
})

for (const n of [1, 4, 9, 16]) {
  test(`a kill at part ${n} of a file costs hop 1 no more than the window`, async () => {
    const joined = new Promise<void>((resolve) => {
      rig.spaces.faults.add({ match: joins('a.safetensors'), act: runAfter(() => resolve()) })
    })
    // Of two files that are in flight at once, the first may not have been joined by the first part of the second.
    const early = n === 1
    const fault = killAt(
      rig,
      async () => {
        if (!early) await joined
        return fork
      },
      'after',
      n,
      storesPartOf('b.safetensors'),
    )
    const fork = forks.start('upload')
    expect(await (await fork).end).toMatchObject({ status: -9 })
    fault.remove()
    const before = rig.moved()
    await ageUploads(rig)
    await forks.mustRun('upload')
    const again = rig.hub.requests.filter(({ method }) => method === 'GET')
    for (const finished of model.files.filter(({ path }) => path !== 'b.safetensors')) {
      if (!early || finished.path !== 'a.safetensors')
        expect(again.filter(hubReads(model, finished.path)), finished.path).toEqual([])
    }
    const whole = model.files.reduce((sum, { body }) => sum + (body as Uint8Array).length, 0)
    expect(before.fromHub + rig.moved().fromHub - whole).toBeLessThanOrEqual(BUFFER)
    await rig.expectUploaded(model)
  })
}

test('a kill behind the join costs hop 1 nothing of that file', async () => {
  for (const moment of ['before', 'after'] as const) {
    emptyBucket(rig)
    const fault = killAt(rig, () => fork, moment, 1, joins('b.safetensors'))
    const fork = forks.start('upload')
    expect(await (await fork).end).toMatchObject({ status: -9 })
    fault.remove()
    rig.moved()
    await forks.mustRun('upload')
    expect(rig.moved().fromHub, moment).toBe(0)
    await rig.expectUploaded(model)
  }
})

test('between commits, a kill costs no more: the object of the same size is not taken for the file', async () => {
  const old = { ...model, files: model.files.map((file) => ({ ...file })) }
  const weights = old.files.find(({ path }) => path === 'b.safetensors')
  if (weights) weights.body = seededBytes('old b', SIZE)
  rig.stage(old)
  const fault = killAt(rig, () => fork, 'after', 12, storesPartOf('b.safetensors'))
  const fork = forks.start('upload')
  expect(await (await fork).end).toMatchObject({ status: -9 })
  fault.remove()
  const before = rig.moved()
  await forks.mustRun('upload')
  expect(rig.spaces.requests.filter(spacesReads('b.safetensors')), 'reads of the old object').toEqual([])
  expect(before.fromHub + rig.moved().fromHub - SIZE).toBeLessThanOrEqual(BUFFER)
  await rig.expectUploaded(model)
})

for (const part of [3, 7, 15]) {
  test(`hop 2 goes on behind what a kill in part ${part} left`, async () => {
    rig.stage(model)
    const offset = part * PART
    const patch = `import volume_kills; volume_kills.arm('half of a pwrite of b.safetensors at ${offset}')`
    expect(await forks.run('download', { patch })).toMatchObject({ status: -9 })
    const left = await rig.files()
    const partial = left.find((name) => /^b\.safetensors\.[0-9a-f]{8}\.partial$/.test(name))
    expect((await stat(rig.file(String(partial)))).size).toBe(offset + Math.floor(Math.min(PART, SIZE - offset) / 2))
    rig.moved()
    await forks.mustRun('download')
    const ranges = rig.spaces.requests.filter(spacesReads('b.safetensors')).map(({ range }) => parseRange(range, SIZE))
    expect(Math.min(...ranges.map((range) => range?.start ?? 0))).toBe(offset)
    expect(ranges.reduce((sum, range) => sum + (range ? range.end - range.start : SIZE), 0)).toBe(SIZE - offset)
    // Which of the others were in place by then is up to how the two workers ran.
    for (const { path } of model.files.filter(({ path }) => left.includes(path))) {
      expect(rig.spaces.requests.filter(spacesReads(path)), path).toEqual([])
    }
    await rig.expectDownloaded(model)
  })
}

test('hop 2 does not move small files again that a kill left whole beside their places', async () => {
  rig.stage(model)
  const patch =
    'import volume_kills; import partials; partials.Partials.place = lambda *args: volume_kills.die("place")'
  expect(await forks.run('download', { patch })).toMatchObject({ status: -9 })
  rig.moved()
  await forks.mustRun('download')
  for (const name of ['config.json', 'tokenizer.model']) {
    expect(rig.spaces.requests.filter(spacesReads(name)), name).toEqual([])
  }
  await rig.expectDownloaded(model)
})
