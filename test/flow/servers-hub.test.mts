import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  answer,
  cut,
  delay,
  editJson,
  flipByte,
  gate,
  ignoreRange,
  reads,
  shiftRange,
  shorten,
  stall,
} from '../local/faults.mts'
import { type Hub, type HubRequest, startHub } from '../local/hub.mts'
import { seededBytes } from '../local/model.mts'

const ID = 'acme/model'
const weights = seededBytes('weights', 2_000_000)
const config = Buffer.from('{"layers": 2}\n')
const odd = 'docs/how to/ü 100%+1 (a&b)#?.md'
const files = [
  { path: 'weights.safetensors', body: weights },
  { path: 'config.json', body: config },
  { path: odd, body: Buffer.from('odd') },
  { path: 'empty', body: new Uint8Array() },
]
const TOKENS = { member: [ID, 'acme/gated', 'acme/private'], visitor: [] }

interface Row {
  type: string
  path: string
  size: number
  oid: string
  lfs?: { oid: string; size: number; pointerSize: number }
}

let hub: Hub
beforeEach(async () => {
  hub = await startHub({
    repos: [
      { id: ID, files, formerIds: ['model', 'acme/old'] },
      { id: 'acme/gated', files, gated: true },
      { id: 'acme/private', files, private: true },
    ],
    tokens: TOKENS,
    pageSize: 2,
  })
})
afterEach(() => hub.close())

const get = (path: string, headers: Record<string, string> = {}, more: RequestInit = {}) =>
  fetch(path.startsWith('http') ? path : hub.url + path, { redirect: 'manual', headers, ...more })
const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
const link = async (id = ID) => String((await get(`/${id}/resolve/main/weights.safetensors`)).headers.get('location'))
const gitBlobId = (input: Uint8Array) => execFileSync('git', ['hash-object', '--stdin'], { input }).toString().trim()
const at = (path: string) => (request: HubRequest) => request.path.endsWith(path)
const onCdn = ({ server }: HubRequest) => server === 'cdn'

/** Every row of a tree, page by page, as the Link headers lead. */
async function tree(revision: string): Promise<{ rows: Row[]; pages: number }> {
  const rows: Row[] = []
  let pages = 0
  for (let url = `${hub.url}/api/models/${ID}/tree/${revision}?recursive=true&expand=false`; url; pages++) {
    const page = await get(url)
    rows.push(...((await page.json()) as Row[]))
    url = /^<(.+)>; rel="next"$/.exec(page.headers.get('link') ?? '')?.[1] ?? ''
  }
  return { rows, pages }
}

describe('the listing', () => {
  test('names every file with its size and the ids that prove it', async () => {
    const { sha } = (await (await get(`/api/models/${ID}`)).json()) as { sha: string }
    expect(sha).toMatch(/^[0-9a-f]{40}$/)
    const { rows, pages } = await tree(sha)
    expect(pages).toBe(3)
    const sha256 = createHash('sha256').update(weights).digest('hex')
    const pointer = Buffer.from(`version https://git-lfs.github.com/spec/v1\noid sha256:${sha256}\nsize 2000000\n`)
    expect(rows).toMatchObject([
      { type: 'file', path: 'config.json', size: config.length, oid: gitBlobId(config) },
      { type: 'directory', path: 'docs' },
      { type: 'directory', path: 'docs/how to' },
      { type: 'file', path: odd, size: 3, oid: gitBlobId(Buffer.from('odd')) },
      { type: 'file', path: 'empty', size: 0, oid: gitBlobId(Buffer.of()) },
      {
        type: 'file',
        path: 'weights.safetensors',
        size: weights.length,
        oid: gitBlobId(pointer),
        lfs: { oid: sha256, size: weights.length, pointerSize: pointer.length },
      },
    ])
    expect(rows.filter(({ lfs }) => lfs)).toHaveLength(1)
    const info = await (await get(`/api/models/${ID}/revision/main?blobs=true`)).json()
    expect(info).toMatchObject({ id: ID, sha, gated: false })
    expect(info).toHaveProperty('siblings.3', {
      rfilename: 'weights.safetensors',
      size: weights.length,
      blobId: gitBlobId(pointer),
      lfs: { sha256, size: weights.length, pointerSize: pointer.length },
    })
  })

  test('keeps every commit readable, and gives the same files the same id', async () => {
    const { sha } = (await (await get(`/api/models/${ID}`)).json()) as { sha: string }
    const next = await hub.push({ id: ID, files: [{ path: 'config.json', body: Buffer.from('new') }], tags: ['v2'] })
    expect(next).not.toBe(sha)
    const config = (revision: string) => get(`/${ID}/resolve/${revision}/config.json`).then((found) => found.text())
    expect(await Promise.all([sha, 'main', 'v2', next].map(config))).toEqual(['{"layers": 2}\n', 'new', 'new', 'new'])
    const twin = await startHub({ repos: [{ id: ID, files: files.toReversed() }] })
    expect(await (await fetch(`${twin.url}/api/models/${ID}`)).json()).toMatchObject({ sha })
    await twin.close()
  })

  test('carries any path, as the Hub cannot be trusted to refuse hostile ones', async () => {
    const paths = ['../outside', '/etc/passwd', 'a\\b', 'nul\0', '.upload-complete', 'x.partial']
    await hub.push({ id: ID, files: paths.map((path) => ({ path, body: Buffer.from('x') })) })
    const { rows } = await tree('main')
    expect(rows.filter(({ type }) => type === 'file').map(({ path }) => path)).toEqual([...paths].sort())
    const twice = editJson<Row[]>((rows) => [...rows, ...rows])
    hub.faults.add({ match: ({ path }) => path.includes('/tree/'), act: twice })
    expect((await tree('main')).rows.length).toBe(2 * rows.length)
  })
})

describe('files', () => {
  test('small ones come from the Hub itself, whole or in ranges', async () => {
    const url = `/${ID}/resolve/main/${odd.split('/').map(encodeURIComponent).join('/')}`
    const whole = await get(url)
    expect([whole.status, await whole.text()]).toEqual([200, 'odd'])
    expect(whole.headers.get('x-repo-commit')).toMatch(/^[0-9a-f]{40}$/)
    expect(whole.headers.get('etag')).toBe(`"${gitBlobId(Buffer.from('odd'))}"`)
    const part = await get(url, { range: 'bytes=1-' })
    expect([part.status, part.headers.get('content-range'), await part.text()]).toEqual([206, 'bytes 1-2/3', 'dd'])
    expect((await get(url, { range: 'bytes=3-' })).status).toBe(416)
    const head = await get(url, {}, { method: 'HEAD' })
    expect([head.headers.get('content-length'), await head.text()]).toEqual(['3', ''])
  })

  test('large ones come from another host, which takes the signed link and no token', async () => {
    const found = await get(`/${ID}/resolve/main/weights.safetensors`, bearer('member'), { method: 'HEAD' })
    expect(found.status).toBe(302)
    expect(found.headers.get('x-linked-size')).toBe('2000000')
    expect(found.headers.get('x-linked-etag')).toBe(`"${createHash('sha256').update(weights).digest('hex')}"`)
    const location = String(found.headers.get('location'))
    expect(new URL(location).hostname).not.toBe(new URL(hub.url).hostname)
    expect((await get(location, bearer('member'))).status).toBe(400)
    expect((await get(`${location}0`)).status, 'changed').toBe(403)
    const part = await get(location, { range: 'bytes=10-19' })
    expect([part.status, part.headers.get('content-range')]).toEqual([206, 'bytes 10-19/2000000'])
    expect(Buffer.from(await part.arrayBuffer())).toEqual(weights.subarray(10, 20))
    hub.links.expire()
    expect((await get(location)).status, 'expired').toBe(403)
    hub.links.uses = 1
    const once = await link()
    expect([(await get(once)).status, (await get(once)).status]).toEqual([200, 403])
  })

  test('what is not there is told from what may not be seen', async () => {
    const told = async (path: string, token?: string) => {
      const { status, headers } = await get(path, token ? bearer(token) : {})
      return `${status} ${headers.get('x-error-code') ?? headers.get('x-error-message') ?? ''}`.trim()
    }
    const config = (id: string) => `/${id}/resolve/main/config.json`
    expect(await told('/api/models/acme/none')).toBe('401 RepoNotFound')
    expect(await told('/api/models/acme/none', 'visitor')).toBe('404 RepoNotFound')
    expect(await told('/api/models/acme/private', 'visitor')).toBe('404 RepoNotFound')
    expect(await told('/api/models/acme/private', 'member')).toBe('200')
    expect(await told(`/api/models/${ID}/revision/none`)).toBe('404 RevisionNotFound')
    expect(await told(`/api/models/${ID}/tree/none?recursive=true`)).toBe('404 RevisionNotFound')
    expect(await told(`/${ID}/resolve/main/none`)).toBe('404 EntryNotFound')
    expect(await told(`/api/models/${ID}`, 'stranger')).toBe('401 Invalid credentials in Authorization header')
    expect(await told('/api/models/acme/gated')).toBe('200')
    expect(await told('/api/models/acme/gated/tree/main?recursive=true')).toBe('200')
    for (const path of [config('acme/gated'), '/api/models/acme/gated/auth-check']) {
      expect(await told(path)).toBe('401 GatedRepo')
      expect(await told(path, 'visitor')).toBe('403 GatedRepo')
      expect(await told(path, 'member')).toBe('200')
    }
    expect(await told(`/api/models/${ID}/auth-check`)).toBe('200')
    expect(await told(`/api/models/${ID}/commits/main`)).toMatch(/^501/)
    expect(await told(`/api/models/${ID}/tree/main`), 'one level only').toMatch(/^501/)
  })

  test('a renamed repository redirects, on the same host', async () => {
    for (const path of ['/api/models/model', '/api/models/acme/old/revision/main', '/model/resolve/main/config.json']) {
      expect((await get(path)).status).toBe(307)
      expect((await fetch(hub.url + path)).status).toBe(200)
    }
  })

  test('small ones can be behind a redirect on the same host', async () => {
    const cached = await startHub({
      repos: [{ id: 'acme/gated', files, gated: true }],
      tokens: TOKENS,
      resolveCache: true,
    })
    const url = `${cached.url}/acme/gated/resolve/main/${odd.split('/').map(encodeURIComponent).join('/')}`
    const first = await get(url, bearer('member'))
    const location = String(first.headers.get('location'))
    expect([first.status, location]).toEqual([
      307,
      expect.stringMatching(/^\/api\/resolve-cache\/models\/acme\/gated\//),
    ])
    expect((await get(cached.url + location)).status, 'the token is asked for here too').toBe(401)
    expect(await (await get(cached.url + location, { ...bearer('member'), range: 'bytes=0-0' })).text()).toBe('o')
    await cached.close()
  })

  test('every request is logged with the host it went to', async () => {
    await get(await link(), { range: 'bytes=0-4' })
    await get(`/api/models/${ID}`, bearer('member'))
    const { host } = new URL(hub.url)
    expect(hub.requests).toMatchObject([
      { server: 'hub', method: 'GET', host, path: `/${ID}/resolve/main/weights.safetensors`, status: 302 },
      { server: 'cdn', host: new URL(hub.cdnUrl).host, range: 'bytes=0-4', status: 206, sent: 5, authorized: false },
      { server: 'hub', path: `/api/models/${ID}`, status: 200, authorized: true },
    ])
  })
})

describe('faults', () => {
  const range = { range: 'bytes=1000-1999' }
  const bytes = async (headers: Record<string, string> = range) => {
    const got = await get(await link(), headers)
    return { ...got, status: got.status, headers: got.headers, body: Buffer.from(await got.arrayBuffer()) }
  }

  test('an answer of any kind, as often as told', async () => {
    const limited = answer(429, { ratelimit: '"api";r=0;t=7' })
    const fault = hub.faults.add({ match: at('config.json'), times: 2, act: limited })
    const path = `/${ID}/resolve/main/config.json`
    const seen = [await get(path), await get(path), await get(path), await get(`/api/models/${ID}`)]
    expect(seen.map(({ status }) => status)).toEqual([429, 429, 200, 200])
    expect(seen[0]?.headers.get('ratelimit')).toBe('"api";r=0;t=7')
    expect(fault.hits).toBe(2)
    hub.faults.add({ match: at('weights.safetensors'), act: answer(302, { location: 'file:///etc/passwd' }) })
    expect(await link()).toBe('file:///etc/passwd')
    hub.faults.clear()
    hub.faults.add({ match: onCdn, act: answer(200, { 'content-type': 'text/html' }, '<html>') })
    expect(await bytes()).toMatchObject({ status: 200, body: Buffer.from('<html>') })
  })

  test('a flipped bit in whichever range holds the byte, once or always', async () => {
    const wrong = Buffer.from(weights)
    wrong.writeUInt8(wrong.readUInt8(1500) ^ 1, 1500)
    hub.faults.add({ match: (request) => onCdn(request) && reads(request, 1500), times: 2, act: flipByte(1500) })
    expect((await bytes({ range: 'bytes=0-999' })).body).toEqual(weights.subarray(0, 1000))
    expect((await bytes()).body).toEqual(wrong.subarray(1000, 2000))
    expect((await bytes({})).body.equals(wrong)).toBe(true)
    expect((await bytes()).body).toEqual(weights.subarray(1000, 2000))
  })

  test('ranges that are short, shifted or ignored', async () => {
    hub.faults.add({ match: onCdn, times: 1, act: shorten(10) })
    expect(await bytes()).toMatchObject({ status: 206, body: weights.subarray(1000, 1010) })
    hub.faults.add({ match: onCdn, times: 1, act: shiftRange(5) })
    const shifted = await bytes()
    expect(shifted.headers.get('content-range')).toBe('bytes 1005-2004/2000000')
    expect(shifted.body).toEqual(weights.subarray(1005, 2005))
    hub.faults.add({ match: onCdn, times: 1, act: ignoreRange() })
    const whole = await bytes()
    expect([whole.status, whole.headers.get('content-range'), whole.body.length]).toEqual([200, null, 2_000_000])
  })

  test('connections that break or fall silent, before an answer or in the middle of it', async () => {
    hub.faults.add({ match: onCdn, times: 1, act: cut() })
    await expect(bytes()).rejects.toThrow('fetch failed')
    hub.faults.add({ match: onCdn, times: 1, act: cut(100) })
    await expect(bytes()).rejects.toThrow('terminated')
    expect(hub.requests.at(-1)).toMatchObject({ status: 206, sent: 100 })

    for (const [act, status] of [
      [stall(), 0],
      [stall(100), 206],
    ] as const) {
      const controller = new AbortController()
      hub.faults.add({ match: onCdn, times: 1, act })
      const silent = get(await link(), range, { signal: controller.signal }).then((got) => got.arrayBuffer())
      await vi.waitFor(() => expect(hub.requests.at(-1)).toMatchObject({ server: 'cdn', status, sent: status && 100 }))
      controller.abort()
      await expect(silent).rejects.toThrow('abort')
    }
    expect((await bytes()).body).toEqual(weights.subarray(1000, 2000))
  })

  test('requests that wait at a gate, or a while', async () => {
    const door = gate<HubRequest>()
    hub.faults.add({ match: onCdn, times: 1, act: door.act })
    const waiting = bytes()
    expect(await door.arrived).toMatchObject({ server: 'cdn', range: 'bytes=1000-1999', status: 0 })
    door.open()
    expect((await waiting).status).toBe(206)
    hub.faults.add({ match: onCdn, act: delay(50) })
    const before = performance.now()
    await bytes()
    expect(performance.now() - before).toBeGreaterThan(45)
  })

  test('several at once, the first added outermost', async () => {
    hub.faults.add({ match: at('config.json'), act: answer(503) })
    const inner = hub.faults.add({ match: at('config.json'), act: cut() })
    expect((await get(`/${ID}/resolve/main/config.json`)).status).toBe(503)
    inner.remove()
    hub.faults.clear()
    expect((await get(`/${ID}/resolve/main/config.json`)).status).toBe(200)
  })
})
