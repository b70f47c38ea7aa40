import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect } from 'vitest'
import { type Act, answer, flipByte, gate, inChunks, shorten, stall } from '../local/faults.mts'
import { makeCertificate, startProxy, startTls } from '../local/gateways.mts'
import type { HubRepo } from '../local/hub.mts'
import { seededBytes } from '../local/model.mts'
import type { SpacesRequest } from '../local/spaces.mts'
import { test as base, impatient, type MoverEnd, QUICK, type Rig, spacesReads } from './mover.mts'

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

/** Puts TLS before Spaces; gives the environment that leads there. */
const test = base.extend('secure', ({ onTestFinished }) => async (rig: Rig) => {
  const certificate = makeCertificate(python)
  const front = await startTls(rig.spaces.url, certificate)
  onTestFinished(() => front.close())
  const bundle = path.join(rig.dir, 'ca.pem')
  await writeFile(bundle, certificate.cert)
  return { ENDPOINT: front.url, SSL_CERT_FILE: bundle }
})

/** Says each body that came by volley. */
const SHOW = `${QUICK}
import volley
real = volley._receive
def shown(*given):
    body = real(*given)
    print("by volley")
    return body
volley._receive = shown
`
/** Says each answer that was waited for in vain. */
const COUNT_LATE = `import volley
class Late(volley.Late):
    def __init__(self, words):
        super().__init__(words)
        print("one was late")
volley.Late = Late
`
const byVolley = ({ log }: MoverEnd) => log.split('\n').filter((line) => line === 'by volley').length

/** How often each file was asked for. */
function countReads(rig: Rig): Map<string, number> {
  const counts = new Map<string, number>()
  const isRead = NAMES.map((name) => [name, spacesReads(name)] as const)
  rig.spaces.faults.add({
    match: (request) => {
      const found = isRead.find(([, reads]) => reads(request))
      if (found) counts.set(found[0], (counts.get(found[0]) ?? 0) + 1)
      return false
    },
    act: ({ carryOut }) => carryOut(),
  })
  return counts
}

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
    ['an answer of no known length', /: another length was announced$/m, inChunks()],
    ['an answer that never begins', /: no byte came for 1 s$/m, stall()],
    ['a body that stalls', /: an answer stopped for 1 s$/m, stall(100)],
    ['other bytes', /: other bytes came$/m, flipByte(100)],
    ['a shorter body with a matching length', /: another length was announced$/m, shorten(100)],
  ])('%s: what is left is asked for with more care', async ([, says, act], { newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const reads = countReads(rig)
    rig.spaces.faults.add({ match: spacesReads(NAMES[40] ?? ''), times: 1, act })
    const { log } = await rig.mustRun('download', { patch: impatient() })
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
