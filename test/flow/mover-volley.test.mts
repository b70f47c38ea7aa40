import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect } from 'vitest'
import { bytesOf, contentOf } from '../local/content.mts'
import {
  type Act,
  answer,
  cut,
  dieAfter,
  type Faults,
  flipByte,
  gate,
  inChunks,
  shorten,
  stall,
} from '../local/faults.mts'
import { makeCertificate, startProxy, startTls } from '../local/gateways.mts'
import type { SeenRequest } from '../local/http.mts'
import type { HubRepo, HubRequest } from '../local/hub.mts'
import { seededBytes } from '../local/model.mts'
import type { SpacesRequest } from '../local/spaces.mts'
import { test as base, hubReads, impatient, type MoverEnd, QUICK, type Rig, spacesReads } from './mover.mts'

const COUNT = 90
const model: HubRepo = {
  id: 'acme/many',
  files: Array.from({ length: COUNT }, (_, number) => {
    const name = `part-${number % 3}/a file ${String(number).padStart(2, '0')}.json`
    return { path: name, body: seededBytes(name, 500 + number) }
  }),
}
const NAMES = model.files.map(({ path: name }) => name)
const [FIRST = ''] = NAMES
const python = path.resolve(import.meta.dirname, '../../.venv/bin')

/** Puts TLS before Hub and Spaces; gives the environment that leads there. */
const test = base.extend('secure', ({ onTestFinished }) => async (rig: Rig) => {
  const certificate = makeCertificate(python)
  const [hub, spaces] = await Promise.all([rig.hub, rig.spaces].map(({ url }) => startTls(url, certificate)))
  onTestFinished(async () => {
    await Promise.all([hub?.close(), spaces?.close()])
  })
  const bundle = path.join(rig.dir, 'ca.pem')
  await writeFile(bundle, certificate.cert)
  return { HF_ENDPOINT: hub?.url, ENDPOINT: spaces?.url, SSL_CERT_FILE: bundle }
})

/** Says each answer that came by volley. */
const SHOW = `${QUICK}
import volley
real = volley._receive
def shown(*given, **more):
    answer = real(*given, **more)
    print("by volley")
    return answer
volley._receive = shown
`
/** A volley is late soon; the careful way bears a busy machine. */
const HASTY = `${QUICK}; import volley; volley.PATIENCE_SECONDS = 1`
/** Says each answer that was waited for in vain. */
const COUNT_LATE = `import volley
class Late(volley.Late):
    def __init__(self, words):
        super().__init__(words)
        print("one was late")
volley.Late = Late
`
const byVolley = ({ log }: MoverEnd) => log.split('\n').filter((line) => line === 'by volley').length

/** Stores, and answers as to another request. */
const stale: Act<SpacesRequest> = async ({ carryOut }) => {
  const given = await carryOut()
  return { ...given, headers: { ...given.headers, etag: `"${'0123456789abcdef'.repeat(2)}"` } }
}

/** Sends ten bytes more, and announces them. */
const lengthen: Act<SeenRequest> = async ({ carryOut }) => {
  const given = await carryOut()
  return given.body
    ? { ...given, body: contentOf(Buffer.concat([await bytesOf(given.body), Buffer.alloc(10)])) }
    : given
}

/** The same answer without its length. */
function unannounced(act: Act<SeenRequest>): Act<SeenRequest> {
  return async (asked) => inChunks()({ ...asked, carryOut: () => act(asked) })
}

/** How often each file was asked for in such requests. */
function countRequests<R extends SeenRequest>(faults: Faults<R>, of: (name: string) => (request: R) => boolean) {
  const counts = new Map<string, number>()
  const kinds = NAMES.map((name) => [name, of(name)] as const)
  faults.add({
    match: (request) => {
      const found = kinds.find(([, isSuch]) => isSuch(request))
      if (found) counts.set(found[0], (counts.get(found[0]) ?? 0) + 1)
      return false
    },
    act: ({ carryOut }) => carryOut(),
  })
  return counts
}

const countReads = (rig: Rig) => countRequests(rig.spaces.faults, spacesReads)
const fromHub = (name: string) => hubReads(model, name)
const intoSpaces =
  (name: string) =>
  ({ operation, key }: SpacesRequest) =>
    operation === 'PutObject' && key.endsWith(`/${name}`)

describe.concurrent('many small files', () => {
  test('each is asked for once, and many before the first has come', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const reads = countReads(rig)
    const { act, arrived, open } = gate<SpacesRequest>()
    rig.spaces.faults.add({ match: spacesReads(FIRST), times: 1, act })
    const running = rig.startMover('download', { patch: SHOW })
    await arrived
    await expect.poll(() => reads.size, { timeout: 10_000 }).toBe(COUNT)
    open()
    const end = await running.end
    expect(end, end.log).toMatchObject({ code: 0, message: { files_moved: COUNT } })
    expect([...reads.values()], 'requests a file').toEqual(NAMES.map(() => 1))
    expect(byVolley(end)).toBe(COUNT)
  })

  test('over TLS as well', async ({ newRig, secure }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const end = await rig.mustRun('download', { patch: SHOW, env: await secure(rig) })
    expect(byVolley(end)).toBe(COUNT)
    await rig.expectDownloaded(model)
  })

  test('never past a proxy', async ({ newRig, onTestFinished }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const proxy = await startProxy()
    onTestFinished(() => proxy.close())
    const end = await rig.mustRun('download', { patch: SHOW, env: { HTTP_PROXY: proxy.url, http_proxy: proxy.url } })
    expect(byVolley(end)).toBe(0)
    await rig.expectDownloaded(model)
  })

  test.for<[string, RegExp, Act<SpacesRequest>]>([
    ['a server that is busy', /: the answer is 503$/m, answer(503, {}, '<Error><Code>SlowDown</Code></Error>')],
    ['an answer that never begins', /: no byte came for 1 s$/m, stall()],
    ['a body that stalls', /: an answer was not through in 1 s$/m, stall(100)],
    ['other bytes', /: other bytes came$/m, flipByte(100)],
    ['a shorter body with a matching length', /: another length was announced$/m, shorten(100)],
  ])('%s: what is left is asked for with more care', async ([, says, act], { newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const reads = countReads(rig)
    rig.spaces.faults.add({ match: spacesReads(NAMES[40] ?? ''), times: 1, act })
    const { log } = await rig.mustRun('download', { patch: HASTY })
    expect(log).toMatch(/^asking with more care for \d+ files?\b/m)
    expect(log).toMatch(says)
    expect(Math.max(...reads.values()), 'requests a file').toBeLessThanOrEqual(2)
    await rig.expectDownloaded(model)
  })

  test.for([
    ['bodies that stall', stall(100), false],
    ['answers that do not begin', stall(), false],
    ['answers that do not begin, over TLS', stall(), true],
  ] as const)('many %s are not waited for one after the other', async ([, act, overTls], { newRig, secure }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    for (const name of NAMES) rig.spaces.faults.add({ match: spacesReads(name), times: 1, act })
    const env = overTls ? await secure(rig) : {}
    const { log } = await rig.mustRun('download', { patch: `${impatient()}\n${COUNT_LATE}`, env })
    expect(log.match(/^one was late$/gm), log).toHaveLength(1)
    await rig.expectDownloaded(model)
  })

  test('answers of no known length come like all others', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.hub.faults.add({ match: ({ path }) => path.includes('/resolve/'), act: inChunks() })
    rig.spaces.faults.add({ match: ({ operation }) => operation === 'GetObject', act: inChunks() })
    const upload = await rig.mustRun('upload', { patch: SHOW })
    const download = await rig.mustRun('download', { patch: SHOW })
    expect([byVolley(upload), byVolley(download)]).toEqual([2 * COUNT, COUNT])
    await rig.expectDownloaded(model)
  })

  test('a server that closes each connection behind its answer', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    rig.spaces.faults.add({
      match: ({ operation }) => operation === 'GetObject',
      act: async ({ carryOut }) => {
        const given = await carryOut()
        return { ...given, headers: { ...given.headers, connection: 'close' } }
      },
    })
    await rig.mustRun('download', { patch: QUICK })
    await rig.expectDownloaded(model)
  })

  test('SIGTERM ends the rest that a server asks for', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const act = answer(503, { 'retry-after': '300' }, '<Error><Code>SlowDown</Code></Error>')
    rig.spaces.faults.add({ match: spacesReads(NAMES[40] ?? ''), times: 1, act })
    const running = rig.startMover('download')
    await running.says(/^asking with more care for \d+ files in 300\.\d s, .*: the answer is 503$/m)
    running.kill('SIGTERM')
    expect((await running.end).code).toBe(143)
  })
})

describe.concurrent('many small files of the Hub', () => {
  test('each is asked for and stored once, and many are before the first has come', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    const [reads, writes] = [countRequests(rig.hub.faults, fromHub), countRequests(rig.spaces.faults, intoSpaces)]
    const [hub, spaces] = [gate<HubRequest>(), gate<SpacesRequest>()]
    rig.hub.faults.add({ match: fromHub(FIRST), times: 1, act: hub.act })
    rig.spaces.faults.add({ match: intoSpaces(FIRST), times: 1, act: spaces.act })
    const running = rig.startMover('upload', { patch: SHOW })
    await hub.arrived
    await expect.poll(() => reads.size, { timeout: 10_000 }).toBe(COUNT)
    hub.open()
    await spaces.arrived
    await expect.poll(() => writes.size, { timeout: 10_000 }).toBe(COUNT)
    spaces.open()
    const end = await running.end
    expect(end, end.log).toMatchObject({ code: 0, message: { files_moved: COUNT } })
    expect([...reads.values(), ...writes.values()], 'requests a file').toEqual([...NAMES, ...NAMES].map(() => 1))
    expect(byVolley(end)).toBe(2 * COUNT)
    await rig.expectUploaded(model)
  })

  test('the Hub leads to its own cache, and gets the token there too', async ({ newRig }) => {
    const closed = { ...model, private: true }
    const rig = await newRig({ models: [closed], hub: { resolveCache: true, tokens: { hf_member: [model.id] } } })
    const reads = countRequests(rig.hub.faults, fromHub)
    const end = await rig.mustRun('upload', { patch: SHOW, env: { HF_TOKEN: 'hf_member' } })
    expect([...reads.values()], 'requests a file').toEqual(NAMES.map(() => 1))
    expect(byVolley(end)).toBe(2 * COUNT)
    await rig.expectUploaded(model)
  })

  test('the Hub leads elsewhere: without the token, and nobody else has to wait', async ({ newRig }) => {
    const closed = { ...model, private: true }
    const [rig, other] = [
      await newRig({ models: [closed], hub: { tokens: { hf_member: [model.id] } } }),
      await newRig({ models: [model] }),
    ]
    rig.hub.faults.add({
      match: (request) => NAMES.slice(40, 50).some((name) => fromHub(name)(request)),
      act: ({ request }) => Promise.resolve({ status: 302, headers: { location: other.hub.url + request.url } }),
    })
    const end = await rig.mustRun('upload', { patch: SHOW, env: { HF_TOKEN: 'hf_member' } })
    expect(end.log).not.toContain('with more care')
    expect(byVolley(end)).toBe(2 * COUNT - 10)
    expect(other.hub.requests.map(({ authorized }) => authorized)).toEqual(Array.from({ length: 10 }, () => false))
    await rig.expectUploaded(model)
  })

  test('a redirect may have in it what a request may not', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.hub.faults.add({
      match: ({ path, query }) => path.includes('/resolve/') && !query.has('again'),
      act: ({ request }) => Promise.resolve({ status: 307, headers: { location: `${request.path}?again=\u00e9 ` } }),
    })
    const end = await rig.mustRun('upload', { patch: SHOW })
    expect(byVolley(end)).toBe(2 * COUNT)
    await rig.expectUploaded(model)
  })

  test('a redirect that leads to itself ends', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.hub.faults.add({
      match: fromHub(FIRST),
      act: ({ request }) => Promise.resolve({ status: 307, headers: { location: request.url } }),
    })
    const { detail } = await rig.mustFail('upload', 64, 'wrong-answer', { patch: QUICK })
    expect(detail).toMatch(/redirected .* more than 5 times/)
    rig.expectNotUploaded()
  })

  test('over TLS as well', async ({ newRig, secure }) => {
    const rig = await newRig({ models: [model] })
    const end = await rig.mustRun('upload', { patch: SHOW, env: await secure(rig) })
    expect(byVolley(end)).toBe(2 * COUNT)
    await rig.expectUploaded(model)
  })

  test('never past a proxy', async ({ newRig, onTestFinished }) => {
    const rig = await newRig({ models: [model] })
    const proxy = await startProxy()
    onTestFinished(() => proxy.close())
    const end = await rig.mustRun('upload', { patch: SHOW, env: { HTTP_PROXY: proxy.url, http_proxy: proxy.url } })
    expect(byVolley(end)).toBe(0)
    await rig.expectUploaded(model)
  })

  test.for<[string, RegExp, Act<SeenRequest>]>([
    ['that is busy', /: the answer is 429$/m, answer(429)],
    ['that sends more than it lists', /: another length was announced$/m, lengthen],
    ['that sends more than it lists, unannounced', /: more bytes came$/m, unannounced(lengthen)],
    ['that breaks off', /: (the answer broke off|ConnectionResetError)$/m, cut(100)],
    ['that breaks off, unannounced', /: (IncompleteRead|ConnectionResetError)$/m, inChunks(100)],
    ['that ends too soon, unannounced', /: the answer broke off$/m, unannounced(shorten(100))],
    ['whose answer never begins', /: no byte came for 1 s$/m, stall()],
    ['whose body stalls', /: an answer was not through in 1 s$/m, stall(100)],
    ['that sends other bytes', /: other bytes came$/m, flipByte(100)],
    ['that closes the connection', /: RemoteDisconnected$/m, cut()],
  ])('a Hub %s: what is left is asked for with more care', async ([, says, act], { newRig }) => {
    const rig = await newRig({ models: [model] })
    const reads = countRequests(rig.hub.faults, fromHub)
    rig.hub.faults.add({ match: fromHub(NAMES[40] ?? ''), times: 1, act })
    const { log } = await rig.mustRun('upload', { patch: HASTY })
    expect(log).toMatch(/^asking with more care for \d+ files?\b/m)
    expect(log).toMatch(says)
    expect(Math.max(...reads.values()), 'requests a file').toBeLessThanOrEqual(2)
    await rig.expectUploaded(model)
  })

  test.for<[string, RegExp, Act<SpacesRequest>]>([
    ['that is busy', /: the answer is 503$/m, answer(503, {}, '<Error><Code>SlowDown</Code></Error>')],
    ['that names no ETag', /: the ETag is not the body's MD5$/m, answer(200)],
    ["that names another object's ETag", /: the ETag is not the body's MD5$/m, stale],
    ['that never answers', /: no byte came for 1 s$/m, stall()],
    ['that stores and closes the connection', /: RemoteDisconnected$/m, dieAfter(() => undefined)],
  ])('a Spaces %s: what is left is stored with more care', async ([, says, act], { newRig }) => {
    const rig = await newRig({ models: [model] })
    const writes = countRequests(rig.spaces.faults, intoSpaces)
    rig.spaces.faults.add({ match: intoSpaces(NAMES[40] ?? ''), times: 1, act })
    const { log } = await rig.mustRun('upload', { patch: HASTY })
    expect(log).toMatch(/^asking with more care for \d+ files?\b/m)
    expect(log).toMatch(says)
    expect(Math.max(...writes.values()), 'requests a file').toBeLessThanOrEqual(2)
    await rig.expectUploaded(model)
  })
})
