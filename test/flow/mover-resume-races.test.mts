import { stat } from 'node:fs/promises'
import { beforeEach, expect, test } from 'vitest'
import { bytesOf, contentOf } from '../local/content.mts'
import { dieAfter, gate, runAfter } from '../local/faults.mts'
import type { HubRepo } from '../local/hub.mts'
import { seededBytes } from '../local/model.mts'
import { isChange, type SpacesRequest } from '../local/spaces.mts'
import {
  ageUploads,
  emptyBucket,
  emptyVolume,
  expectNoFalseDownload,
  expectNoFalseUpload,
  forks,
  hurry,
  rig,
  useForks,
} from './kills.mts'
import { spacesReads, twinModels, WEIGHTS } from './mover.mts'

const [first, second] = twinModels()
const OTHER = { JOB_UID: 'job-2' }

useForks(first)
beforeEach(async () => {
  await rig.hub.push(first)
})

type Stage = [string, (request: SpacesRequest) => boolean]

const on = (operation: SpacesRequest['operation'], key: (key: string) => boolean) => (request: SpacesRequest) =>
  request.operation === operation && key(request.key)
const JOIN = on('CompleteMultipartUpload', (key) => key === rig.key(WEIGHTS))
const EVIDENCE = on('PutObject', (key) => key === rig.key('.upload-complete'))
const CLEARING = on('DeleteObject', (key) => key === rig.key('.upload-plan'))
const STAGES: Stage[] = [
  ['its plan', on('PutObject', (key) => key === rig.key('.upload-plan'))],
  ['a small file', on('PutObject', (key) => key === rig.key('config.json'))],
  ['the first part', on('UploadPart', (key) => key === rig.key(WEIGHTS))],
  ['a journal', on('PutObject', (key) => key.startsWith(rig.key('.upload-journal/')))],
  ['the join', JOIN],
  ['the evidence', EVIDENCE],
  ['clearing up', CLEARING],
]

for (const [stage, match] of STAGES) {
  test(`a run that is held before ${stage} while another one does all of it ends well`, async () => {
    const held = gate<SpacesRequest>()
    rig.spaces.faults.add({ match, times: 1, act: held.act })
    const slow = await forks.start('upload')
    await held.arrived
    await forks.mustRun('upload', { env: OTHER })
    await expectNoFalseUpload(rig)
    held.open()
    const end = await slow.end
    expect(end, end.log).toMatchObject({ status: 0 })
    await rig.expectUploaded(first)
  })
}

test('two runs of hop 1 side by side both end well', async () => {
  for (let round = 0; round < 4; round++) {
    emptyBucket(rig)
    const ends = await Promise.all([forks.run('upload'), forks.run('upload', { env: OTHER })])
    for (const end of ends) expect(end, end.log).toMatchObject({ status: 0 })
    await ageUploads(rig)
    await forks.mustRun('upload')
    await rig.expectUploaded(first)
  }
})

test('a run at another commit takes over: the first one gives way instead of putting its evidence there', async () => {
  for (const [stage, match] of STAGES.slice(1, 5)) {
    emptyBucket(rig)
    await rig.hub.push(first)
    const held = gate<SpacesRequest>()
    rig.spaces.faults.add({ match, times: 1, act: held.act })
    const slow = await forks.start('upload')
    await held.arrived
    await rig.hub.push(second)
    const stuck = gate<SpacesRequest>()
    const evidence = rig.spaces.faults.add({ match: EVIDENCE, times: 1, act: stuck.act })
    const fast = await forks.start('upload', { env: OTHER })
    await stuck.arrived
    held.open()
    const end = await slow.end
    expect(end, `${stage}: ${end.log}`).toMatchObject({ status: 1, message: { cause: 'spaces-unsteady' } })
    await expectNoFalseUpload(rig)
    stuck.open()
    evidence.remove()
    // It may find objects that the other one put there meanwhile, and then mends or gives up; its Job's next pod ends well.
    expect([0, 1], stage).toContain((await fast.end).status)
    await expectNoFalseUpload(rig)
    await forks.mustRun('upload', { env: OTHER })
    await ageUploads(rig)
    await forks.mustRun('upload', { env: OTHER })
    await rig.expectUploaded(second)
  }
})

test('a run that is late ends in no false evidence, and begins nothing under the evidence of another commit', async () => {
  for (const [stage, match] of STAGES) {
    emptyBucket(rig)
    rig.spaces.faults.clear()
    hurry(rig)
    await rig.hub.push(first)
    const held = gate<SpacesRequest>()
    rig.spaces.faults.add({ match, times: 1, act: held.act })
    const late = await forks.start('upload')
    await held.arrived
    await rig.hub.push(second)
    await forks.mustRun('upload', { env: OTHER })
    const falsehoods: string[] = []
    rig.spaces.faults.add({
      match: isChange,
      act: runAfter(({ operation }) => expectNoFalseUpload(rig).catch(() => falsehoods.push(operation))),
    })
    held.open()
    const end = await late.end
    expect([0, 1], `${stage}: ${end.log}`).toContain(end.status)
    // Later than that nothing but the times of the objects tells, which S3 has no lock for.
    if (stage === 'its plan') expect(falsehoods).toEqual([])
    await expectNoFalseUpload(rig)
    await forks.mustRun('upload', { env: OTHER })
    await ageUploads(rig)
    await forks.mustRun('upload', { env: OTHER })
    await rig.expectUploaded(second)
  }
})

const surplus: HubRepo = {
  id: first.id,
  files: [...first.files, { path: 'surplus.json', body: seededBytes('surplus', 3000) }],
}
for (const [what, before, next] of [
  ['its objects', first, second],
  ['files that are listed again', surplus, surplus],
] as const) {
  test(`a run that another one to a newer commit has overtaken undoes nothing of it: ${what}`, async () => {
    await rig.hub.push(before)
    await forks.mustRun('upload')
    hurry(rig)
    await rig.hub.push(first)
    // At the look behind its work, which is all done where the first commit had no other bytes.
    const held = gate<SpacesRequest>()
    let lists = 0
    const fault = rig.spaces.faults.add({
      match: ({ operation, query }) => operation === 'ListObjects' && !query.get('marker') && ++lists === 2,
      act: held.act,
    })
    const late = await forks.start('upload', { env: { REPAIR: 'true', JOB_UID: 'job-0' } })
    await held.arrived
    fault.remove()
    await rig.hub.push(next)
    await forks.mustRun('upload', { env: OTHER })
    await rig.expectUploaded(next)
    held.open()
    const end = await late.end
    expect(end, end.log).toMatchObject({ status: 1, message: { cause: 'spaces-unsteady' } })
    await rig.expectUploaded(next)
  })
}

test('a late join is noticed although the other run is about to end, and its plan is all that is left to remove', async () => {
  const join = gate<SpacesRequest>()
  rig.spaces.faults.add({ match: JOIN, times: 1, act: join.act })
  const late = await forks.start('upload')
  await join.arrived
  await rig.hub.push(second)
  const clearing = gate<SpacesRequest>()
  rig.spaces.faults.add({ match: CLEARING, times: 1, act: clearing.act })
  const other = await forks.start('upload', { env: OTHER })
  await clearing.arrived
  join.open()
  expect(await late.end).toMatchObject({ status: 1, message: { cause: 'spaces-unsteady' } })
  clearing.open()
  expect(await other.end).toMatchObject({ status: 1, message: { cause: 'spaces-unsteady' } })
  await expectNoFalseUpload(rig)
  await forks.mustRun('upload', { env: OTHER })
  await rig.expectUploaded(second)
})

for (const moment of ['has ended', 'is about to end']) {
  test(`what only an overtaken run has does not stay when the other one ${moment}`, async () => {
    await rig.hub.push(surplus)
    const held = gate<SpacesRequest>()
    const surplusFile = on('PutObject', (key) => key === rig.key('surplus.json'))
    rig.spaces.faults.add({ match: surplusFile, times: 1, act: held.act })
    const late = await forks.start('upload')
    await held.arrived
    await rig.hub.push(first)
    const clearing = gate<SpacesRequest>()
    if (moment !== 'has ended') rig.spaces.faults.add({ match: CLEARING, times: 1, act: clearing.act })
    const other = await forks.start('upload', { env: OTHER })
    await (moment === 'has ended' ? other.end : clearing.arrived)
    held.open()
    expect(await late.end).toMatchObject({ status: 1, message: { cause: 'spaces-unsteady' } })
    clearing.open()
    expect(await other.end).toMatchObject({ status: 0 })
    await ageUploads(rig)
    await forks.mustRun('upload', { env: OTHER })
    await rig.expectUploaded(first)
  })
}

test('evidence that came late, over objects that another run had begun to change, proves nothing', async () => {
  const put = gate<SpacesRequest>()
  rig.spaces.faults.add({ match: EVIDENCE, times: 1, act: dieAfter(async () => (await late).kill()) })
  rig.spaces.faults.add({ match: EVIDENCE, times: 1, act: put.act })
  const late = forks.start('upload')
  await put.arrived
  await rig.hub.push(second)
  rig.spaces.faults.add({
    match: JOIN,
    times: 1,
    act: dieAfter(async () => {
      rig.spaces.clock.ahead += 5000
      put.open()
      await (await late).end
      await (await other).kill()
    }),
  })
  const other = forks.start('upload', { env: OTHER })
  await (await other).end
  await rig.hub.push(first)
  await forks.mustRun('upload')
  await rig.expectUploaded(first)
})

test('a run that finds all complete leaves to another one what it has begun with', async () => {
  await forks.mustRun('upload')
  const atList = gate<SpacesRequest>()
  rig.spaces.faults.add({ match: on('ListObjects', () => true), times: 1, act: atList.act })
  const idle = await forks.start('upload')
  await atList.arrived
  const atChange = gate<SpacesRequest>()
  const takes = on('DeleteObject', (key) => key === rig.key('.upload-complete'))
  rig.spaces.faults.add({ match: takes, times: 1, act: atChange.act })
  const busy = await forks.start('upload', { env: { ...OTHER, EXCLUDE: 'adapter.*' } })
  await atChange.arrived
  atList.open()
  const end = await idle.end
  expect(end, end.log).toMatchObject({ status: 0 })
  expect(rig.objects()).toContain('.upload-plan')
  atChange.open()
  expect((await busy.end).status).toBe(0)
  await rig.expectUploaded({ ...first, files: first.files.filter(({ path }) => path !== 'adapter.safetensors') })
})

test('an unfinished upload is aborted when its newest part is older than 15 minutes by the clock of the server', async () => {
  const start = (name: string, minutes: number, parts: number[]) => {
    const upload = rig.bucket.startUpload(rig.key(name), {})
    const at = (ago: number) => new Date(Date.now() + rig.spaces.clock.ahead - ago * 60_000)
    upload.initiated = at(minutes)
    for (const [index, ago] of parts.entries()) {
      const piece = { content: { size: 0, read: async function* () {} }, md5: 'f'.repeat(32), discard: () => undefined }
      rig.bucket.addPart(upload, index + 1, piece).lastModified = at(ago)
    }
    return upload.id
  }
  // The server's clock differs from the one of the machine on which the mover runs.
  rig.spaces.clock.ahead = -10 * 60_000
  const old = [start(WEIGHTS, 16, []), start('gone.safetensors', 300, [200, 16]), start(WEIGHTS, 100, [17])]
  const live = [start(WEIGHTS, 13, []), start('tokenizer.json', 300, [200, 14]), start(WEIGHTS, 1, [0])]
  const elsewhere = rig.bucket.startUpload('models/acme/mixed-other/model.safetensors', {})
  elsewhere.initiated = new Date(0)
  rig.spaces.faults.clear()
  // A server that says of every page that it is the last.
  rig.spaces.faults.add({
    match: ({ operation }) => operation === 'ListMultipartUploads',
    act: async ({ request, carryOut }) => {
      request.query.set('max-uploads', '2')
      const { body, ...given } = await carryOut()
      const page = body ? String(await bytesOf(body)) : ''
      return { ...given, body: contentOf(page.replace('<IsTruncated>true', '<IsTruncated>false')) }
    },
  })
  const { log } = await forks.mustRun('upload')
  expect(log).toContain(`as a run elsewhere may be at them: ${live.length}`)
  const left = [...rig.bucket.uploads.keys()]
  expect(left.sort()).toEqual([...live, elsewhere.id].sort())
  expect(left).not.toContain(old[0])
  // Again, by a run that finds everything complete.
  for (const id of live) {
    const upload = rig.bucket.uploads.get(id)
    if (upload) upload.initiated = new Date(0)
    for (const part of upload?.parts.values() ?? []) part.lastModified = new Date(0)
  }
  await forks.mustRun('upload')
  expect([...rig.bucket.uploads.keys()]).toEqual([elsewhere.id])
})

test('two runs of hop 2 side by side both end well', async () => {
  rig.stage(first)
  for (let round = 0; round < 4; round++) {
    await emptyVolume(rig)
    const ends = await Promise.all([forks.run('download'), forks.run('download', { env: OTHER })])
    for (const end of ends) expect(end, end.log).toMatchObject({ status: 0 })
    await rig.expectDownloaded(first)
  }
})

for (const name of ['config.json', WEIGHTS]) {
  test(`a run of hop 2 waits for the one that is writing ${name}, and takes its bytes for good`, async () => {
    rig.stage(first)
    const held = gate<SpacesRequest>()
    const fault = rig.spaces.faults.add({ match: spacesReads(name), act: held.act })
    const slow = await forks.start('download')
    await held.arrived
    fault.remove()
    const fast = await forks.start('download', { env: OTHER })
    await fast.says('waiting: another run is writing')
    held.open()
    for (const end of await Promise.all([slow.end, fast.end])) expect(end, end.log).toMatchObject({ status: 0 })
    await rig.expectDownloaded(first)
  })

  test(`a run of hop 2 takes ${name} over when the one that was writing it is killed`, async () => {
    rig.stage(first)
    const held = gate<SpacesRequest>()
    const fault = rig.spaces.faults.add({ match: spacesReads(name), act: held.act })
    const slow = await forks.start('download')
    await held.arrived
    fault.remove()
    const fast = await forks.start('download', { env: OTHER })
    await fast.says('waiting: another run is writing')
    await slow.kill()
    held.open()
    const end = await fast.end
    expect(end, end.log).toMatchObject({ status: 0 })
    await rig.expectDownloaded(first)
  })
}

test('a run of hop 2 waits as long as the other one lives, though that writes nothing', async () => {
  rig.stage(first)
  const held = gate<SpacesRequest>()
  const fault = rig.spaces.faults.add({ match: spacesReads(WEIGHTS), act: held.act })
  const slow = await forks.start('download', { patch: 'import partials; partials.LIFE_SECONDS = 0.1' })
  await held.arrived
  fault.remove()
  const fast = await forks.start('download', { env: OTHER, patch: 'import partials; partials.HELD_SECONDS = 2' })
  await fast.says('waiting: another run is writing')
  const since = Date.now()
  const partial = (await rig.files()).find((name) => name.startsWith(WEIGHTS)) ?? ''
  await expect
    .poll(async () => (await stat(rig.file(partial))).mtimeMs, { timeout: 20_000 })
    .toBeGreaterThan(since + 4000)
  held.open()
  for (const end of await Promise.all([slow.end, fast.end])) expect(end, end.log).toMatchObject({ status: 0 })
  await rig.expectDownloaded(first)
})

test('a run of hop 2 gives a lock up whose holder shows no life, and says what to look for', async () => {
  rig.stage(first)
  const held = gate<SpacesRequest>()
  const fault = rig.spaces.faults.add({ match: spacesReads(WEIGHTS), act: held.act })
  const hung = await forks.start('download', { patch: 'import partials; partials.LIFE_SECONDS = 1e6' })
  await held.arrived
  fault.remove()
  const patch = 'import partials; partials.HELD_SECONDS = 1'
  const end = await (await forks.start('download', { env: OTHER, patch })).end
  expect(end, end.log).toMatchObject({ status: 1, message: { cause: 'volume-io' } })
  expect(end.message?.detail).toContain(WEIGHTS)
  expect(end.message?.next).toContain('another run of this model')
  held.open()
  expect(await hung.end).toMatchObject({ status: 0 })
  await rig.expectDownloaded(first)
})

test('a run at another commit leaves the partials of a live one alone, and neither ends in false evidence', async () => {
  rig.stage(first, { commit: 'a'.repeat(40) })
  const held = gate<SpacesRequest>()
  const last = ({ range }: SpacesRequest) => range?.startsWith(`bytes=${2 * 5 * 2 ** 20}-`) ?? false
  rig.spaces.faults.add({ match: (request) => spacesReads(WEIGHTS)(request) && last(request), times: 1, act: held.act })
  const slow = await forks.start('download')
  await held.arrived
  rig.bucket.objects.clear()
  rig.stage(second, { commit: 'b'.repeat(40) })
  await forks.mustRun('download', { env: OTHER })
  const partials = (await rig.files()).filter((name) => name.endsWith('.partial'))
  expect(partials, 'those of the live run').toEqual([expect.stringMatching(/^model\.safetensors\..{8}\.partial$/)])
  await expectNoFalseDownload(rig)
  held.open()
  const end = await slow.end
  expect(end, end.log).toMatchObject({ status: 1, message: { cause: 'spaces-unsteady' } })
  await expectNoFalseDownload(rig)
  await forks.mustRun('download')
  await rig.expectDownloaded(second)
})
