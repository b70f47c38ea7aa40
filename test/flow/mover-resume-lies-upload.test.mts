import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { bytesOf, contentOf } from '../local/content.mts'
import { flipByte } from '../local/faults.mts'
import type { SpacesRequest } from '../local/spaces.mts'
import { Forks } from './forks.mts'
import {
  ageUploads,
  emptyBucket,
  hurry,
  type Journal,
  journalOf,
  keepBucket,
  killAt,
  killBehindJournal,
} from './kills.mts'
import { mixedModel, type Rig, spacesReads, startRig } from './mover.mts'
import { sha256 } from './proof.mts'

const model = mixedModel()
const WEIGHTS = 'model.safetensors'
const weights = model.files.find((file) => file.path === WEIGHTS)?.body as Uint8Array
/** As where the library of this machine cannot save a SHA-256. */
const NO_STATE = 'import digest; digest._openssl = lambda: None'

let rig: Rig
let forks: Forks
/** The bucket behind a kill in the third and last part of the weights, of which two are journaled. */
let restore: () => void

beforeAll(async () => {
  rig = await startRig({ models: [model], env: { BUFFER: '32Mi' } })
  forks = new Forks(rig)
  hurry(rig)
  await killBehindJournal(rig, forks, WEIGHTS, 2)
  await ageUploads(rig)
  restore = keepBucket(rig)
})
afterAll(async () => {
  await forks?.close()
  await rig?.close()
})

const fake = 'f'.repeat(32)
const changed = (change: (journal: Journal) => Record<string, unknown>) => (journal: Journal) =>
  JSON.stringify({ ...journal, ...change(journal) })

const LIES: [string, (journal: Journal) => string | Uint8Array][] = [
  ['another size', changed(({ size }) => ({ size: size - 1 }))],
  ['another source', changed(() => ({ source: `sha256:${'0'.repeat(64)}` }))],
  ['parts in another order', changed(({ etags }) => ({ etags: etags.toReversed() }))],
  ['a part that is none', changed(({ etags }) => ({ etags: [fake, ...etags.slice(1)] }))],
  ['the state behind another part', changed(({ etags }) => ({ etags: etags.slice(0, 1) }))],
  ['a state of other bytes', changed(({ state }) => ({ state: otherBytes(state) }))],
  ['a state that overruns its block', changed(({ state }) => ({ state: overrun(state) }))],
  ['a state that is none', changed(() => ({ state: randomBytes(112).toString('base64') }))],
  ['a state that is no base64', changed(() => ({ state: '%%%' }))],
  ['no state', changed(() => ({ state: '' }))],
  ['an upload that is none', changed(() => ({ upload: '../../2~none' }))],
  ['another part size', changed(({ part_size }) => ({ part_size: part_size + 2 ** 20 }))],
  ['a part size of nothing', changed(() => ({ part_size: 0 }))],
  ['a negative part size', changed(() => ({ part_size: -5 * 2 ** 20 }))],
  ['a part size beyond memory', changed(() => ({ part_size: 2 ** 60 }))],
  ['a part size that is text', changed(() => ({ part_size: '5242880' }))],
  ['more parts than there are', changed(({ etags }) => ({ etags: [...etags, fake, fake, fake] }))],
  ['parts that are numbers', changed(() => ({ etags: [1, 2] }))],
  ['a finished upload that is none', changed(({ etags }) => ({ etags: [...etags, fake], sha256: sha256(weights) }))],
  ['a finished upload of other bytes', changed(({ etags }) => ({ etags: [...etags, fake], sha256: '0'.repeat(64) }))],
  ['a finished upload of too few parts', changed(() => ({ sha256: sha256(weights) }))],
  ['a path that leads out', changed(() => ({ path: '../../other/config.json' }))],
  ['a path that is a list', changed(() => ({ path: [] }))],
  ['nothing', () => ''],
  ['another kind of document', () => '[1, 2]'],
  ['half a document', (journal) => JSON.stringify(journal).slice(0, 200)],
  ['bytes', () => randomBytes(500)],
  ['a document too deep to read', () => '['.repeat(200_000)],
]

/** The same counts, but another hash behind them. */
function otherBytes(state: string): string {
  const bytes = Buffer.from(state, 'base64')
  bytes.writeUInt32LE((bytes.readUInt32LE(0) ^ 1) >>> 0, 0)
  return bytes.toString('base64')
}

function overrun(state: string): string {
  const bytes = Buffer.from(state, 'base64')
  bytes.writeUInt32LE(0x7fff_ffff, 104)
  return bytes.toString('base64')
}

for (const [lie, tell] of LIES) {
  test(`a journal that tells of ${lie} costs time, not truth`, async () => {
    restore()
    const found = await journalOf(rig, WEIGHTS)
    if (!found) throw new Error('there is no journal')
    rig.putObject(found.key, tell(found.journal))
    await forks.mustRun('upload')
    await rig.expectUploaded(model)
  })
}

for (const [lie, plan] of [
  ['nothing', ''],
  ['bytes', randomBytes(300)],
  ['another kind of document', '[]'],
  ['a plan without most of it', JSON.stringify({ job: 'job-1', commit: 'main' })],
  ['a plan too deep to read', '{"a":'.repeat(100_000)],
] as const) {
  test(`a plan that is ${lie} is none`, async () => {
    restore()
    rig.putObject('.upload-plan', plan)
    await forks.mustRun('upload')
    await rig.expectUploaded(model)
  })
}

test('a plan that lists files of other models as known removes nothing outside of its own', async () => {
  restore()
  const plan = JSON.parse(String(await rig.object('.upload-plan')))
  rig.bucket.replace('models/acme/other/config.json', '{}')
  const known = [...plan.known, '../other/config.json', 'acme/other/config.json', 'models/acme/other/config.json']
  rig.putObject('.upload-plan', JSON.stringify({ ...plan, known }))
  await forks.mustRun('upload')
  await rig.expectUploaded(model)
  expect(rig.bucket.objects.has('models/acme/other/config.json')).toBe(true)
})

test('a plan that was copied along from another model removes nothing', async () => {
  restore()
  const plan = JSON.parse(String(await rig.object('.upload-plan')))
  rig.putObject('theirs.json', '{}')
  rig.putObject('.upload-plan', JSON.stringify({ ...plan, model: 'acme/other', known: [...plan.known, 'theirs.json'] }))
  await forks.mustRun('upload')
  await rig.expectUploaded(model, ['theirs.json'])
})

test('a list of parts that the server cuts short is read to its end', async () => {
  restore()
  const fault = rig.spaces.faults.add({
    match: ({ operation }) => operation === 'ListParts',
    act: async ({ request, carryOut }) => {
      request.query.set('max-parts', '1')
      const { body, ...given } = await carryOut()
      const page = body ? String(await bytesOf(body)) : ''
      return { ...given, body: contentOf(page.replace('<IsTruncated>true', '<IsTruncated>false')) }
    },
  })
  const { log } = await forks.mustRun('upload')
  fault.remove()
  expect(log).toContain(`going on with ${WEIGHTS} behind ${2 * 5 * 2 ** 20} of`)
  await rig.expectUploaded(model)
})

test('names that are no text end nothing, in the plan or in the word of hop 2', async () => {
  for (const env of [{}, { REPAIR: 'true' }]) {
    restore()
    const plan = JSON.parse(String(await rig.object('.upload-plan')))
    rig.putObject('.upload-plan', JSON.stringify({ ...plan, known: [...plan.known, '\ud800'] }))
    rig.putObject('.upload-suspect', '{"paths": ["\\ud800"]}')
    await forks.mustRun('upload', { env })
    await rig.expectUploaded(model)
  }
  // Hop 2 adds its own word to the one that is there.
  rig.putObject('.upload-suspect', '{"paths": ["\\ud800"]}')
  rig.spaces.faults.add({ match: spacesReads('config.json'), act: flipByte(0) })
  const end = await forks.run('download')
  rig.spaces.faults.clear()
  expect(end, end.log).toMatchObject({ status: 64, message: { cause: 'wrong-bytes' } })
  expect(JSON.parse(String(await rig.object('.upload-suspect')))).toEqual({ paths: ['config.json'] })
})

test('where a SHA-256 cannot be saved, a killed file starts again and ends right', async () => {
  const storesPart = ({ operation, key }: SpacesRequest) => operation === 'UploadPart' && key === rig.key(WEIGHTS)
  for (const [killed, next] of [
    [NO_STATE, NO_STATE],
    [NO_STATE, ''],
  ] as const) {
    emptyBucket(rig)
    const fault = killAt(rig, () => fork, 'after', 3, storesPart)
    const fork = forks.start('upload', { patch: killed })
    expect(await (await fork).end).toMatchObject({ status: -9 })
    fault.remove()
    await ageUploads(rig)
    await forks.mustRun('upload', { patch: next })
    await rig.expectUploaded(model)
  }
  restore()
  const { log } = await forks.mustRun('upload', { patch: NO_STATE })
  expect(log).toContain(`not going on with the upload of ${WEIGHTS}`)
  await rig.expectUploaded(model)
})

test('a killed upload of larger parts than the buffer gives now ends right', async () => {
  emptyBucket(rig)
  const storesPart = ({ operation, key }: SpacesRequest) => operation === 'UploadPart' && key === rig.key(WEIGHTS)
  const fault = killAt(rig, () => fork, 'after', 1, storesPart)
  const fork = forks.start('upload', { env: { BUFFER: '256Mi' } })
  expect(await (await fork).end).toMatchObject({ status: -9 })
  fault.remove()
  await ageUploads(rig)
  await forks.mustRun('upload')
  await rig.expectUploaded(model)
})

test('an upload of smaller parts than the buffer gives now goes on, and starts right when it is gone', async () => {
  restore()
  const { log } = await forks.mustRun('upload', { env: { BUFFER: '256Mi' } })
  expect(log).toContain(`going on with ${WEIGHTS} behind ${2 * 5 * 2 ** 20} of`)
  await rig.expectUploaded(model)
  restore()
  const fault = rig.spaces.faults.add({
    match: ({ operation, key }) => operation === 'UploadPart' && key === rig.key(WEIGHTS),
    times: 1,
    act: async ({ carryOut }) => {
      rig.bucket.uploads.clear()
      return carryOut()
    },
  })
  await forks.mustRun('upload', { env: { BUFFER: '256Mi' } })
  expect(fault.hits).toBe(1)
  await rig.expectUploaded(model)
})
