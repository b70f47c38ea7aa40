import { describe, expect } from 'vitest'
import { type Act, answer, cut, cutUpload, delay, runBefore, stall } from '../local/faults.mts'
import type { HubRepo } from '../local/hub.mts'
import { seededBytes } from '../local/model.mts'
import { isChange, type SpacesRequest } from '../local/spaces.mts'
import { documentOf, impatient, QUICK, type Rig, spacesReads, test } from './mover.mts'

const model: HubRepo = {
  id: 'acme/stored',
  files: [
    { path: 'config.json', body: seededBytes('config', 2000) },
    { path: 'nested/model.safetensors', body: seededBytes('model', 6_000_000) },
  ],
}
const XML = { 'content-type': 'application/xml' }
const refuse = (status: number, code: string, headers = {}) =>
  answer(status, { ...XML, ...headers }, `<Error><Code>${code}</Code></Error>`)
const MINUTES = 60_000

/** Demands that nothing was changed in the bucket, and that no file was read from the Hub. */
function expectUntouched(rig: Rig): void {
  expect(rig.spaces.requests.filter((request) => isChange(request) && request.status === 200)).toEqual([])
  expect(rig.moved().fromHub).toBe(0)
}

describe.concurrent('what nobody but the user can mend ends the run at once, before a byte moves', () => {
  const rows: [string, Record<string, string | undefined>, (rig: Rig) => void, string, RegExp][] = [
    ['an unknown key', { AWS_ACCESS_KEY_ID: 'unknown-key' }, () => {}, 'spaces-credentials', /spaces-credentials/],
    ['a wrong secret', { AWS_SECRET_ACCESS_KEY: 'wrong-secret' }, () => {}, 'spaces-credentials', /spaces-credentials/],
    ['no key', { AWS_ACCESS_KEY_ID: undefined }, () => {}, 'spaces-credentials', /AWS_ACCESS_KEY_ID/],
    ['no secret', { AWS_SECRET_ACCESS_KEY: '' }, () => {}, 'spaces-credentials', /AWS_SECRET_ACCESS_KEY/],
    ['a key of two lines', { AWS_ACCESS_KEY_ID: 'key-of\ntwo-lines' }, () => {}, 'spaces-credentials', /ACCESS_KEY_ID/],
    [
      'a clock that is behind',
      {},
      (rig) => Object.assign(rig.spaces.clock, { ahead: 20 * MINUTES }),
      'clock-skew',
      /15/,
    ],
    [
      'a clock that is ahead',
      {},
      (rig) => Object.assign(rig.spaces.clock, { ahead: -20 * MINUTES }),
      'clock-skew',
      /15/,
    ],
    ['no such bucket', { BUCKET: 'no-such-bucket' }, () => {}, 'no-bucket', /no-such-bucket/],
    ['a name that no bucket has', { BUCKET: 'No Such_Bucket!' }, () => {}, 'bad-settings', /No Such_Bucket!/],
    ['no bucket named', { BUCKET: '' }, () => {}, 'bad-settings', /BUCKET/],
    ['no endpoint named', { ENDPOINT: '' }, () => {}, 'bad-settings', /ENDPOINT/],
    ['an endpoint that is none', { ENDPOINT: 'atl1.example' }, () => {}, 'bad-settings', /ENDPOINT/],
    [
      'no right to list',
      {},
      (rig) => Object.assign(rig.spaces.rights, { list: false }),
      'spaces-denied',
      /models-bucket/,
    ],
  ]
  test.for(rows)('%s', async ([, env, prepare, cause, words], { newRig }) => {
    const rig = await newRig({ models: [model] })
    prepare(rig)
    for (const verb of ['upload', 'download'] as const) {
      const { detail } = await rig.mustFail(verb, 64, cause, { env })
      expect(detail).toMatch(words)
    }
    expectUntouched(rig)
  })

  test('keys with white space around them', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    const { accessKey, secretKey } = rig.spaces
    const env = { AWS_ACCESS_KEY_ID: ` ${accessKey}\n`, AWS_SECRET_ACCESS_KEY: `${secretKey}\r\n` }
    await rig.mustRun('upload', { env })
    await rig.mustRun('download', { env })
  })

  test('no right to write', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.spaces.rights.write = false
    await rig.mustFail('upload', 64, 'spaces-denied')
    expectUntouched(rig)
  })

  test('no right to write, for hop 2, which needs none', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    rig.spaces.rights.write = false
    await rig.mustRun('download')
    await rig.expectDownloaded(model)
  })

  test.for([['no right to read', 'GetObject', 'AccessDenied', 'download']] as const)(
    '%s',
    async ([, operation, code, verb], { newRig }) => {
      const rig = await newRig({ models: [model] })
      if (verb === 'download') rig.stage(model)
      rig.spaces.faults.add({ match: (request) => request.operation === operation, act: refuse(403, code) })
      const { detail } = await rig.mustFail(verb, 64, 'spaces-denied')
      expect(detail).toContain(code)
    },
  )

  test.for<[string, SpacesRequest['operation'], number, string, string, RegExp]>([
    ['a quota that is used up', 'PutObject', 403, 'QuotaExceeded', 'spaces-full', /quota/],
    ['another region', 'GetObject', 400, 'AuthorizationHeaderMalformed', 'other-region', /--region/],
    ['another endpoint', 'GetObject', 301, 'PermanentRedirect', 'other-region', /--endpoint/],
    ['another endpoint, for a file', 'UploadPart', 307, 'TemporaryRedirect', 'other-region', /--endpoint/],
    ['a name that is too long', 'PutObject', 400, 'KeyTooLongError', 'spaces-refused', /--exclude/],
  ])('%s', async ([, operation, status, code, cause, words], { newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.spaces.faults.add({ match: (request) => request.operation === operation, act: refuse(status, code) })
    const { next } = await rig.mustFail('upload', 64, cause)
    expect(next).toMatch(words)
    rig.expectNotUploaded()
  })
})

/** For `patch`: says at the end how much memory the run took at most. */
const PEAK = `import upload
def run(self, inner=upload.Upload.run):
    try:
        return inner(self)
    finally:
        print(*[line for line in open("/proc/self/status") if line.startswith("VmHWM")], flush=True)
upload.Upload.run = run`
const peakOf = (log: string) => Number(/^VmHWM:\s+(\d+) kB$/m.exec(log)?.[1]) / 1024
const MIB = 2 ** 20

describe.concurrent('the budget is all the memory', () => {
  test('whatever comes with an error', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    const page = Buffer.alloc(200 * MIB, 'x')
    const isPart = ({ operation }: SpacesRequest) => operation === 'UploadPart'
    const part = rig.spaces.faults.add({ match: isPart, times: 1, act: answer(500, {}, page) })
    const api = rig.hub.faults.add({
      match: ({ path }) => path.startsWith('/api/'),
      times: 1,
      act: answer(500, {}, page),
    })
    const { log } = await rig.mustRun('upload', { patch: `${QUICK}; ${PEAK}` })
    expect([part.hits, api.hits]).toEqual([1, 1])
    expect(peakOf(log), 'MiB').toBeLessThan(64 + 120)
    await rig.expectUploaded(model)
  })

  test('an error that does not end is waited for as long as a stall', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    const drip = async function* () {
      yield Buffer.from('<Error>')
      for (;;) {
        await new Promise((resolve) => setTimeout(resolve, 200))
        yield Buffer.from(' ')
      }
    }
    const isPart = ({ operation }: SpacesRequest) => operation === 'UploadPart'
    const body = { size: MIB, read: drip }
    const fault = rig.spaces.faults.add({
      match: isPart,
      times: 1,
      act: async ({ carryOut }) => {
        await carryOut()
        return { status: 500, body }
      },
    })
    await rig.mustRun('upload', { patch: impatient() })
    expect(fault.hits).toBe(1)
  })

  test('where an object has to be moved a second time', async ({ newRig }) => {
    const bytes = seededBytes('x', 20_000_000)
    const large = { id: 'acme/large', files: [{ path: 'x.bin', body: bytes, lfs: true }] }
    const rig = await newRig({ models: [large], env: { BUFFER: '192Mi' } })
    let lists = 0
    rig.spaces.faults.add({
      match: ({ operation, query }) => operation === 'ListObjects' && !query.get('marker') && ++lists === 2,
      // The same bytes under another ETag: they are read back.
      act: runBefore(() => rig.putObject('x.bin', bytes)),
    })
    const { log } = await rig.mustRun('upload', { patch: PEAK })
    expect(log).toContain('x.bin changed in Spaces')
    expect(peakOf(log), 'MiB').toBeLessThan(192 + 120)
    await rig.expectUploaded(large)
  })
})

describe.concurrent('what may heal is tried again, whatever was asked', () => {
  const OPERATIONS = {
    upload: [
      'GetObject',
      'ListObjects',
      'PutObject',
      'CreateMultipartUpload',
      'UploadPart',
      'CompleteMultipartUpload',
      'DeleteObject',
      'ListMultipartUploads',
    ],
    download: ['GetObject', 'ListObjects'],
  } as const

  test.for<[string, Act<SpacesRequest>]>([
    ['408', refuse(408, 'RequestTimeout')],
    ['429', refuse(429, 'TooManyRequests')],
    ['500', refuse(500, 'InternalError')],
    ['401 without a reason', answer(401)],
    ['403 without a reason', answer(403, { 'content-type': 'text/html' }, '<html>not now</html>')],
    ['404 without a reason', answer(404, { 'content-type': 'text/html' }, '<html>no backend</html>')],
    ['502 without a reason', answer(502, { 'content-type': 'text/html' }, '<html>bad gateway</html>')],
    ['503 SlowDown', refuse(503, 'SlowDown')],
    ['a page with status 200 in good XML', answer(200, { 'content-type': 'text/html' }, '<html><p>hi</p></html>')],
    ['no answer', cut()],
    ['an answer that is lost', async ({ carryOut }) => ({ ...(await carryOut()), broken: { how: 'cut' } })],
    ['a silent server', stall()],
  ])('%s', async ([, act], { newRig }) => {
    const rig = await newRig({ models: [model] })
    for (const verb of ['upload', 'download'] as const) {
      const faults = OPERATIONS[verb].map((operation) =>
        rig.spaces.faults.add({ match: (request) => request.operation === operation, times: 1, act }),
      )
      // Of a download the first read is the evidence's, and files are read by other code.
      const files = model.files.map(({ path }) =>
        rig.spaces.faults.add({ match: spacesReads(path), times: verb === 'download' ? 1 : 0, act }),
      )
      await rig.mustRun(verb, { patch: impatient() })
      expect(faults.map(({ hits }) => hits)).toEqual(OPERATIONS[verb].map(() => 1))
      if (verb === 'download') expect(files.map(({ hits }) => hits)).toEqual([1, 1])
    }
    // An upload whose beginning or end was confirmed in vain may be another run's: it stays until it is old.
    rig.bucket.uploads.clear()
    await rig.expectUploaded(model)
    await rig.expectDownloaded(model)
  })

  test.for<[string, SpacesRequest['operation'], Act<SpacesRequest>, string]>([
    ['SlowDown', 'ListObjects', refuse(503, 'SlowDown'), 'spaces-busy'],
    ['500', 'UploadPart', refuse(500, 'InternalError'), 'spaces-error'],
    ['no answer', 'ListObjects', cut(), 'connection'],
    ['a silent server', 'ListObjects', stall(), 'stalled'],
    ['uploads that are cut', 'UploadPart', cutUpload(100_000), 'connection'],
    ['a page instead of a list', 'ListObjects', answer(200, {}, 'welcome'), 'spaces-error'],
    ['a page instead of a list, in good XML', 'ListObjects', answer(200, {}, '<html><p>hi</p></html>'), 'spaces-error'],
    ['a refusal without a reason', 'ListObjects', answer(403), 'spaces-error'],
    ['a bucket that a load balancer does not find', 'ListObjects', answer(404, {}, '<html></html>'), 'spaces-error'],
    ['a file that nobody answers for', 'GetObject', refuse(503, 'SlowDown'), 'spaces-busy'],
    ['a file that is refused without a reason', 'GetObject', answer(403), 'spaces-busy'],
  ])('and given up in the end: %s', async ([, operation, act, cause], { newRig }) => {
    const rig = await newRig({ models: [model] })
    const verb = operation === 'GetObject' ? 'download' : 'upload'
    if (verb === 'download') rig.stage(model)
    let evidenceRead = false
    rig.spaces.faults.add({
      match: (request) => {
        if (request.operation !== operation) return false
        const first = operation === 'GetObject' && !evidenceRead
        evidenceRead = true
        return !first
      },
      act,
    })
    const { detail } = await rig.mustFail(verb, 1, cause, {
      patch: cause === 'stalled' ? impatient(0.2) : QUICK,
    })
    expect(detail).toMatch(/Spaces|127\.0\.0\.1/)
    if (verb === 'upload') rig.expectNotUploaded()
    else await rig.expectNotDownloaded()
  })

  test.for([500, 502])(
    'an outage answered with %s is not called the damage of an object',
    async (status, { newRig }) => {
      const rig = await newRig({ models: [model] })
      rig.stage(model)
      let reads = 0
      rig.spaces.faults.add({
        match: ({ operation }) => operation === 'GetObject' && ++reads > 1,
        act: answer(status, { 'content-type': 'text/html' }, '<html>bad gateway</html>'),
      })
      for (const verb of ['verify-spaces', 'download'] as const) {
        reads = 0
        await rig.mustFail(verb, 1, 'spaces-busy', { patch: QUICK, env: { LEVEL: 'hashes' } })
      }
      expect(rig.objects()).not.toContain('.upload-suspect')
    },
  )

  const soon = () => new Date(Date.now() + 2000).toUTCString()
  test.for<[string, SpacesRequest['operation'], () => Act<SpacesRequest>]>([
    ['a list', 'ListObjects', () => refuse(503, 'SlowDown', { 'retry-after': '1' })],
    ['a list, by a date', 'ListObjects', () => refuse(503, 'SlowDown', { 'retry-after': soon() })],
    ['a part', 'UploadPart', () => refuse(503, 'SlowDown', { 'retry-after': '1' })],
    ['an object', 'PutObject', () => refuse(429, 'TooManyRequests', { 'retry-after': '1' })],
    ['a file for hop 2', 'GetObject', () => refuse(503, 'SlowDown', { 'retry-after': '1' })],
  ])('a server that says when to come back is obeyed: %s', async ([, operation, act], { newRig }) => {
    const rig = await newRig({ models: [model] })
    const verb = operation === 'GetObject' ? 'download' : 'upload'
    if (verb === 'download') rig.stage(model)
    const times: number[] = []
    let first = ''
    rig.spaces.faults.add({
      match: (request) => request.operation === operation && (verb === 'upload' || spacesReads('config.json')(request)),
      act: (exchange) => {
        const { url } = exchange.request
        first ||= url
        if (url === first) times.push(Date.now())
        return times.length === 1 && url === first ? act()(exchange as never) : exchange.carryOut()
      },
    })
    await rig.mustRun(verb, { patch: QUICK })
    expect((times[1] ?? 0) - (times[0] ?? 0), 'milliseconds').toBeGreaterThanOrEqual(990)
    await rig.expectUploaded(model)
  })
})

describe.concurrent('answers of which not all is there', () => {
  const isEvidence = spacesReads('.upload-complete')

  test('evidence whose length is not announced', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    const document = documentOf(rig.stage(model))
    const headers = { etag: '"x"', 'last-modified': new Date().toUTCString(), 'transfer-encoding': 'chunked' }
    const fault = rig.spaces.faults.add({ match: isEvidence, act: answer(200, headers, document) })
    await rig.mustRun('download')
    expect(fault.hits).toBeGreaterThan(0)
    await rig.expectDownloaded(model)
  })

  test('evidence without its time', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    const document = documentOf(rig.stage(model))
    rig.spaces.faults.add({ match: isEvidence, times: 1, act: answer(200, { etag: '"x"' }, document) })
    await rig.mustRun('download', { patch: QUICK })
    await rig.expectDownloaded(model)
  })

  test('an odd answer behind two resets is the first one of its kind', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const acts: Act<SpacesRequest>[] = [cut(), cut(), answer(200, {}, 'a page')]
    const fault = rig.spaces.faults.add({
      match: spacesReads('config.json'),
      act: (exchange) => acts.shift()?.(exchange) ?? exchange.carryOut(),
    })
    await rig.mustRun('download', { patch: QUICK })
    expect(fault.hits).toBe(4)
    await rig.expectDownloaded(model)
  })
})

describe.concurrent('bytes on their way into Spaces', () => {
  /** Flips a bit of what the client sends, as a box in between may. */
  const damage: Act<SpacesRequest> = ({ body, carryOut }) =>
    carryOut(
      (async function* () {
        let first = true
        for await (const chunk of body) {
          const copy = Buffer.from(chunk)
          if (first) copy.writeUInt8(copy.readUInt8(0) ^ 1, 0)
          first = false
          yield copy
        }
      })(),
    )
  const isModelFile = ({ operation, key }: SpacesRequest) =>
    ['PutObject', 'UploadPart'].includes(operation) && !key.includes('.upload-')

  test('a flipped bit once', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    const small = rig.spaces.faults.add({
      match: (request) => isModelFile(request) && request.operation === 'PutObject',
      times: 1,
      act: damage,
    })
    const large = rig.spaces.faults.add({
      match: (request) => isModelFile(request) && request.operation === 'UploadPart',
      times: 1,
      act: damage,
    })
    await rig.mustRun('upload', { patch: QUICK })
    expect([small.hits, large.hits]).toEqual([1, 1])
    await rig.expectUploaded(model)
  })

  test('a flipped bit always', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.spaces.faults.add({ match: isModelFile, act: damage })
    const { detail, next } = await rig.mustFail('upload', 64, 'wrong-bytes', { patch: QUICK })
    expect(detail).toMatch(/^Spaces received other bytes of (config\.json|nested\/model\.safetensors)/)
    expect(next).toContain('proxy')
    rig.expectNotUploaded()
  })

  /** One part, larger than what the sockets hold on their own. */
  const heavy: HubRepo = { id: 'acme/heavy', files: [{ path: 'x.bin', body: seededBytes('x', 16_000_000) }] }

  test('a server that stops to take bytes is waited for as long as a stall allows', async ({ newRig }) => {
    const rig = await newRig({ models: [heavy], env: { BUFFER: '256Mi' } })
    const isPart = ({ operation }: SpacesRequest) => operation === 'UploadPart'
    const fault = rig.spaces.faults.add({ match: isPart, times: 1, act: delay(2000) })
    const { log } = await rig.mustRun('upload', { patch: 'import web; web.CONNECT_SECONDS = 0.8' })
    expect(fault.hits).toBe(1)
    expect(log).not.toContain('retry')
  })

  test('and no longer', async ({ newRig }) => {
    const rig = await newRig({ models: [heavy], env: { BUFFER: '256Mi' } })
    const isPart = ({ operation }: SpacesRequest) => operation === 'UploadPart'
    const fault = rig.spaces.faults.add({ match: isPart, times: 1, act: stall() })
    const patch = `${impatient()}; web.CONNECT_SECONDS = 45`
    const { log, seconds } = await rig.mustRun('upload', { patch })
    expect(fault.hits).toBe(1)
    expect(log).toContain('Spaces moved no byte')
    expect(seconds).toBeLessThan(40)
    await rig.expectUploaded(heavy)
  })
})
