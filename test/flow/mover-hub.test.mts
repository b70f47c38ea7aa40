import { once } from 'node:events'
import { createServer } from 'node:net'
import { describe, expect } from 'vitest'
import { type Act, answer, cut, reads, runBefore, stall } from '../local/faults.mts'
import type { HubRepo, HubRequest } from '../local/hub.mts'
import { seededBytes } from '../local/model.mts'
import { isChange } from '../local/spaces.mts'
import { hubReads, impatient, QUICK, type Rig, test } from './mover.mts'

const model: HubRepo = {
  id: 'acme/guarded',
  files: [
    { path: 'config.json', body: seededBytes('config', 2000) },
    // Three parts.
    { path: 'model.safetensors', body: seededBytes('model', 11_000_000) },
  ],
}
const open: HubRepo = { id: 'acme/small', files: [{ path: 'config.json', body: Buffer.from('{}') }] }
const TOKENS = { hf_member: [model.id], hf_visitor: [] }
const WEIGHTS = hubReads(model, 'model.safetensors')
const isApi = ({ path }: HubRequest) => path.startsWith('/api/models/')
const isFile = hubReads(open, 'config.json')

/** Demands that nothing was changed in the bucket. */
function expectUntouched(rig: Rig): void {
  expect(rig.spaces.requests.filter(isChange)).toEqual([])
}

describe.concurrent('what nobody but the user can mend ends the run at once, before anything changes', () => {
  test.for<[string, Partial<HubRepo>, Record<string, string>, string, RegExp]>([
    ['no such model, without a token', {}, { MODEL: 'acme/nowhere' }, 'no-model', /acme\/nowhere/],
    ['no such model', {}, { MODEL: 'acme/nowhere', HF_TOKEN: 'hf_member' }, 'no-model', /acme\/nowhere/],
    ['a private model without a token', { private: true }, {}, 'no-model', /private/],
    [
      'a private model with a token that may not see it',
      { private: true },
      { HF_TOKEN: 'hf_visitor' },
      'no-model',
      /./,
    ],
    ['no such revision', {}, { REVISION: 'no/such' }, 'no-revision', /no\/such/],
    ['a token that the Hub does not know', {}, { HF_TOKEN: 'hf_stranger' }, 'bad-token', /token/],
    ['a token with a line break in it', {}, { HF_TOKEN: 'hf_member\nhf_visitor' }, 'bad-token', /token/],
    ['a token that is no ASCII', {}, { HF_TOKEN: 'hf_m→mber' }, 'bad-token', /token/],
    ['a gated model without a token', { gated: true }, {}, 'gated', /no token/],
    [
      'a gated model with a token that has no access',
      { gated: true },
      { HF_TOKEN: 'hf_visitor' },
      'gated',
      /no access/,
    ],
    [
      'a gated model under its former name',
      { gated: true, formerIds: ['acme/former'] },
      { MODEL: 'acme/former' },
      'gated',
      /./,
    ],
  ])('%s', async ([, change, env, cause, words], { newRig }) => {
    const rig = await newRig({ models: [{ ...model, ...change }], hub: { tokens: TOKENS } })
    const { detail, next } = await rig.mustFail('upload', 64, cause, { env })
    expect(detail).toMatch(words)
    if (cause === 'gated') expect(next).toContain(`${rig.hub.url}/`)
    if (/token|gated/.test(cause)) expect(next).toContain('hf-token')
    expectUntouched(rig)
  })

  const disabled = answer(403, { 'x-error-message': 'Access to this resource is disabled.' })
  test.for<[string, Act<HubRequest>, Record<string, string>, string, RegExp]>([
    ['a refusal without a reason', answer(403), {}, 'hub-denied', /config\.json.*without a token/],
    ['and one to a token', answer(403), { HF_TOKEN: 'hf_member' }, 'hub-denied', /config\.json.*to the token/],
    ['a model that is disabled', disabled, { HF_TOKEN: 'hf_member' }, 'hub-denied', /has disabled acme\/small/],
    [
      'a file that is listed and not there',
      answer(404, { 'x-error-code': 'EntryNotFound' }),
      {},
      'wrong-answer',
      /config\.json/,
    ],
    ['an answer of no known kind', answer(418), {}, 'wrong-answer', /config\.json/],
  ])('%s', async ([, act, env, cause, words], { newRig }) => {
    const rig = await newRig({ models: [open], hub: { tokens: TOKENS } })
    rig.hub.faults.add({ match: ({ path }) => path.includes('/resolve/'), act })
    const { detail } = await rig.mustFail('upload', 64, cause, { patch: QUICK, env })
    expect(detail).toMatch(words)
    expectUntouched(rig)
  })
})

describe.concurrent('access', () => {
  for (const change of [{ gated: true }, { private: true }]) {
    test(`a ${Object.keys(change)} model; the token goes to the Hub's own host only`, async ({ newRig }) => {
      const rig = await newRig({ models: [{ ...model, ...change }], hub: { tokens: TOKENS } })
      // As `kubectl create secret --from-file` stores it.
      await rig.mustRun('upload', { env: { HF_TOKEN: 'hf_member\n' } })
      await rig.expectUploaded(model)
      const told = (server: string) => rig.hub.requests.filter((seen) => seen.server === server)
      expect(told('hub').every(({ authorized }) => authorized)).toBe(true)
      expect(told('cdn').length).toBeGreaterThan(0)
      expect(told('cdn').some(({ authorized }) => authorized)).toBe(false)
    })
  }

  test('the token follows no redirect to another host', async ({ newRig }) => {
    const rig = await newRig({ models: [open], hub: { tokens: TOKENS } })
    rig.hub.faults.add({
      match: (request) => request.server === 'hub' && isApi(request),
      act: async ({ request }) => ({ status: 307, headers: { location: rig.hub.cdnUrl + request.url } }),
    })
    await rig.runMover('upload', { env: { HF_TOKEN: 'hf_member' }, patch: QUICK })
    const elsewhere = rig.hub.requests.filter(({ server }) => server === 'cdn')
    expect(elsewhere.length).toBeGreaterThan(0)
    expect(elsewhere.some(({ authorized }) => authorized)).toBe(false)
  })

  test('a model under its former name', async ({ newRig }) => {
    const rig = await newRig({ models: [{ ...open, formerIds: ['former'] }], env: { MODEL: 'former' } })
    await rig.mustRun('upload')
    await rig.expectUploaded({ ...open, id: 'former' })
  })

  test('small files from the cache of the Hub', async ({ newRig }) => {
    const rig = await newRig({ models: [model], hub: { resolveCache: true } })
    await rig.mustRun('upload')
    await rig.expectUploaded(model)
  })
})

describe.concurrent('what may heal is tried again', () => {
  test.for<[string, Act<HubRequest>]>([
    ...[408, 429, 500, 502, 503, 504].map((status): [string, Act<HubRequest>] => [`${status}`, answer(status)]),
    ['a page that is no JSON', answer(200, { 'content-type': 'text/html' }, '<html>try later</html>')],
    ['no answer', cut()],
    ['half an answer', cut(20)],
    ['a silent server', stall()],
    ['a server that falls silent', stall(20)],
  ])('%s, once each for the API and for a file', async ([, act], { newRig }) => {
    const rig = await newRig({ models: [open] })
    const api = rig.hub.faults.add({ match: isApi, times: 2, act })
    const file = rig.hub.faults.add({ match: (request) => isFile(request) && request.method === 'GET', times: 1, act })
    await rig.mustRun('upload', { patch: impatient() })
    expect([api.hits, file.hits]).toEqual([2, 1])
    await rig.expectUploaded(open)
  })

  test.for([408, 429, 500, 502, 503, 504])(
    '%s for a large file at the storage of the Hub',
    async (status, { newRig }) => {
      const rig = await newRig({ models: [model] })
      const fault = rig.hub.faults.add({ match: WEIGHTS, times: 4, act: answer(status) })
      await rig.mustRun('upload', { patch: QUICK })
      expect(fault.hits).toBe(4)
      await rig.expectUploaded(model)
    },
  )

  test.for<[string, Act<HubRequest>, string]>([
    ['429', answer(429), 'hub-busy'],
    ['503', answer(503), 'hub-error'],
    ['a page that is no JSON', answer(200, {}, '<html>'), 'hub-error'],
    ['no answer', cut(), 'connection'],
    ['a silent server', stall(), 'stalled'],
  ])('and given up in the end: %s', async ([, act, cause], { newRig }) => {
    const rig = await newRig({ models: [open] })
    rig.hub.faults.add({ match: isApi, act })
    const { detail, next } = await rig.mustFail('upload', 1, cause, {
      patch: cause === 'stalled' ? impatient(0.2) : QUICK,
    })
    expect(detail).toContain('the Hub')
    if (cause === 'hub-busy') expect(next).toContain('token')
    expectUntouched(rig)
  })

  test('a port on which nobody listens', async ({ newRig }) => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as { port: number }
    server.close()
    const rig = await newRig({ models: [open] })
    const env = { HF_ENDPOINT: `http://127.0.0.1:${port}` }
    const { detail } = await rig.mustFail('upload', 1, 'connection', { env, patch: QUICK })
    expect(detail).toContain('the Hub')
  })
})

describe.concurrent('a server that says when to come back is obeyed', () => {
  const soon = () => new Date(Date.now() + 2000).toUTCString()
  test.for<[string, (request: HubRequest) => boolean, number, () => Record<string, string>]>([
    ['the API, in seconds', isApi, 429, () => ({ 'retry-after': '1' })],
    ['the API, as a date', isApi, 503, () => ({ 'retry-after': soon() })],
    ["the API, by the Hub's own header", isApi, 429, () => ({ ratelimit: '"api";r=0;t=1' })],
    ['a file at the Hub', hubReads(model, 'config.json'), 429, () => ({ ratelimit: '"resolvers";r=0;t=1' })],
    ['a large file', WEIGHTS, 503, () => ({ 'retry-after': '1' })],
  ])('%s', async ([, match, status, headers], { newRig }) => {
    const rig = await newRig({ models: [model] })
    const times: number[] = []
    rig.hub.faults.add({
      match,
      act: async ({ request, carryOut }) => {
        // The same call again is what was asked to wait: others, such as other parts of the file, may go on.
        if (request.range === undefined || reads(request, 0)) times.push(Date.now())
        return times.length === 1 ? { status, headers: headers() } : carryOut()
      },
    })
    await rig.mustRun('upload', { patch: QUICK })
    expect((times[1] ?? 0) - (times[0] ?? 0), 'milliseconds').toBeGreaterThanOrEqual(990)
    await rig.expectUploaded(model)
  })

  test('but not for ever', async ({ newRig }) => {
    const rig = await newRig({ models: [open] })
    rig.hub.faults.add({ match: isApi, act: answer(429, { 'retry-after': '86400' }) })
    const mover = rig.startMover('upload')
    const [, seconds] = await mover.says(/retry 1 of 7 in ([\d.]+) s/)
    expect(Number(seconds)).toBeLessThan(601)
    mover.kill('SIGTERM')
    expect(await mover.end).toMatchObject({ code: 143, message: { cause: 'stopped' } })
  })
})

describe.concurrent('redirects', () => {
  test.for([
    ['to a file', 'file:///etc/passwd'],
    ['to another protocol', 'ftp://127.0.0.1/x'],
    ['to nowhere', ''],
  ])('%s are not followed', async ([, location], { newRig }) => {
    for (const match of [isApi, isFile]) {
      const rig = await newRig({ models: [open] })
      rig.hub.faults.add({ match, act: async () => ({ status: 302, headers: { location } }) })
      const { detail } = await rig.mustFail('upload', 64, 'wrong-answer', { patch: QUICK })
      expect(detail).toContain('redirect')
      rig.expectNotUploaded()
    }
  })

  test('in a circle end', async ({ newRig }) => {
    const rig = await newRig({ models: [open] })
    rig.hub.faults.add({
      match: isFile,
      act: async ({ request }) => ({ status: 302, headers: { location: request.url } }),
    })
    await rig.mustFail('upload', 64, 'wrong-answer', { patch: QUICK })
    expect(rig.hub.requests.length).toBeLessThan(40)
  })
})

describe.concurrent('signed links', () => {
  test('that are good for one request', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.hub.links.uses = 1
    await rig.mustRun('upload', { patch: QUICK })
    await rig.expectUploaded(model)
  })

  test('that expire in mid-file', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    const late = (request: HubRequest) => WEIGHTS(request) && reads(request, 10_600_000)
    const fault = rig.hub.faults.add({ match: late, times: 1, act: runBefore(() => rig.hub.links.expire()) })
    await rig.mustRun('upload', { patch: QUICK })
    expect(fault.hits).toBe(1)
    await rig.expectUploaded(model)
    expect(rig.moved().fromHub, 'nothing twice').toBe(11_002_000)
  })

  test('that are never good', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.hub.links.uses = 0
    const { detail } = await rig.mustFail('upload', 1, 'hub-error', { patch: QUICK })
    expect(detail).toContain('model.safetensors')
    rig.expectNotUploaded()
  })

  test('that lead on to another one', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    let count = 0
    rig.hub.faults.add({
      match: WEIGHTS,
      act: async ({ request, carryOut }) => {
        count += 1
        return count % 2 ? { status: 302, headers: { location: request.url } } : carryOut()
      },
    })
    await rig.mustRun('upload', { patch: QUICK })
    await rig.expectUploaded(model)
  })
})
