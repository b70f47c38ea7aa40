import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { beforeAll, describe, expect } from 'vitest'
import {
  type Certificate,
  makeCertificate,
  type ProxyGateway,
  startHangUp,
  startProxy,
  startTls,
} from '../local/gateways.mts'
import type { HubRepo } from '../local/hub.mts'
import { seededBytes } from '../local/model.mts'
import { test as base, QUICK, type Rig, type RigOptions } from './mover.mts'

const python = path.resolve(import.meta.dirname, '../../.venv/bin')
const model: HubRepo = {
  id: 'acme/near',
  files: [
    { path: 'config.json', body: Buffer.from('{}') },
    { path: 'tokenizer.json', body: seededBytes('tokenizer', 1_500_000), lfs: false },
    { path: 'model.safetensors', body: seededBytes('model', 6_000_000) },
  ],
}
const large: HubRepo = { id: 'acme/far', files: [{ path: 'x.bin', body: Buffer.from('x'), lfs: true }] }
let good: Certificate

beforeAll(() => {
  good = makeCertificate(python)
})

interface Front {
  rig: Rig
  /** HF_ENDPOINT and ENDPOINT behind TLS. */
  env: { HF_ENDPOINT: string; ENDPOINT: string }
  /** The Hub's second host behind TLS, to which its links lead. */
  cdn: string
  /** A file with the certificate. */
  bundle: string
}

const test = base
  .extend(
    'front',
    ({ newRig, onTestFinished }) =>
      async (certificate: Certificate, options?: RigOptions, plainLinks = false) => {
        const rig = await newRig({ models: [model], ...options })
        const urls = [rig.hub.url, rig.spaces.url, rig.hub.cdnUrl]
        const gateways = await Promise.all(urls.map((url) => startTls(url, certificate)))
        const [hub, spaces, cdn] = gateways.map(({ url }) => url) as [string, string, string]
        if (!plainLinks) {
          rig.hub.faults.add({
            match: ({ server, path: route }) => server === 'hub' && route.includes('/resolve/'),
            act: async ({ carryOut }) => {
              const { headers = {}, ...given } = await carryOut()
              const location = String(headers.location ?? '').replace(rig.hub.cdnUrl, cdn)
              return { ...given, headers: { ...headers, ...(location && { location }) } }
            },
          })
        }
        onTestFinished(() => Promise.all(gateways.map((gateway) => gateway.close())).then(() => undefined))
        const bundle = path.join(rig.dir, 'ca.pem')
        await writeFile(bundle, certificate.cert)
        return { rig, env: { HF_ENDPOINT: hub, ENDPOINT: spaces }, cdn, bundle } satisfies Front
      },
  )
  .extend('newProxy', ({ onTestFinished }) => async (login?: string) => {
    const proxy = await startProxy(login)
    onTestFinished(() => proxy.close())
    return proxy
  })

describe.concurrent('TLS', () => {
  test.for(['SSL_CERT_FILE', 'AWS_CA_BUNDLE', 'REQUESTS_CA_BUNDLE'])('a CA bundle in %s', async (name, { front }) => {
    const { rig, env, bundle } = await front(good)
    await rig.mustRun('upload', { env: { ...env, [name]: bundle } })
    await rig.mustRun('download', { env: { ...env, [name]: bundle } })
    await rig.expectDownloaded(model)
  })

  test('a CA bundle as text, as a Secret hands it to a pod', async ({ front }) => {
    const { rig, env } = await front(good)
    const given = { ...env, CA_BUNDLE: good.cert }
    await rig.mustRun('upload', { env: given })
    await rig.mustRun('download', { env: given })
    await rig.expectDownloaded(model)
    const { detail } = await rig.mustFail('upload', 64, 'bad-settings', { env: { ...env, CA_BUNDLE: 'no such thing' } })
    expect(detail).toContain('CA_BUNDLE')
  })

  const bad: [string, () => Certificate, boolean][] = [
    ['nobody vouches for', () => good, false],
    ['for another name', () => makeCertificate(python, 'elsewhere.example'), true],
    ['that has expired', () => makeCertificate(python, '127.0.0.1', -3, -1), true],
  ]
  test.for(bad)('a certificate %s', async ([, certificate, trusted], { front }) => {
    const { rig, env, bundle } = await front(certificate())
    const given = trusted ? { SSL_CERT_FILE: bundle } : {}
    for (const [name, side] of [
      ['HF_ENDPOINT', 'the Hub'],
      ['ENDPOINT', 'Spaces'],
    ] as const) {
      const { detail, next } = await rig.mustFail('upload', 64, 'tls', {
        env: { ...given, [name]: env[name] },
      })
      expect(detail).toContain(side)
      expect(next).toContain('mover-network')
    }
    rig.expectNotUploaded()
    await rig.mustFail('download', 64, 'tls', { env: { ...given, ENDPOINT: env.ENDPOINT } })
  })

  test('a CA bundle that is not there', async ({ front }) => {
    const { rig, env } = await front(good)
    for (const name of ['HF_ENDPOINT', 'ENDPOINT'] as const) {
      const given = { [name]: env[name], SSL_CERT_FILE: '/nowhere/ca.pem' }
      const { detail } = await rig.mustFail('upload', 64, 'bad-settings', { env: given })
      expect(detail).toContain('/nowhere/ca.pem')
    }
  })

  test.for(['a server that hangs up', 'a server that speaks no TLS'])('%s may come back', async (kind, { newRig }) => {
    const rig = await newRig({ models: [model] })
    const gateway = await startHangUp()
    for (const [name, url] of [
      ['HF_ENDPOINT', rig.hub.url],
      ['ENDPOINT', rig.spaces.url],
    ] as const) {
      const address = kind.includes('hangs') ? gateway.url : url.replace('http:', 'https:')
      await rig.mustFail('upload', 1, 'connection', { env: { [name]: address }, patch: QUICK })
    }
    await gateway.close()
  })

  test('no redirect leads out of it', async ({ front }) => {
    const { rig, env, bundle } = await front(good, { models: [large] }, true)
    const { detail } = await rig.mustFail('upload', 64, 'wrong-answer', {
      env: { ...env, SSL_CERT_FILE: bundle },
      patch: QUICK,
    })
    expect(detail).toContain('redirected')
    rig.expectNotUploaded()
  })
})

describe.concurrent('a proxy', () => {
  const hosts = ({ asked }: ProxyGateway) =>
    new Set(asked.map((line) => line.split(' ')[1]?.replace(/^http:\/\/|\/.*/g, '')))
  const host = (url: string) => new URL(url).host

  test.for(['HTTP_PROXY', 'http_proxy'])('for http, in %s', async (name, { newRig, newProxy }) => {
    const rig = await newRig({ models: [model] })
    const proxy = await newProxy()
    await rig.mustRun('upload', { env: { [name]: proxy.url } })
    await rig.mustRun('download', { env: { [name]: proxy.url } })
    await rig.expectDownloaded(model)
    expect(hosts(proxy)).toEqual(new Set([rig.hub.url, rig.spaces.url, rig.hub.cdnUrl].map(host)))
    expect(proxy.asked.length, 'nothing past it').toBe(rig.hub.requests.length + rig.spaces.requests.length)
  })

  test('for https', async ({ front, newProxy }) => {
    const { rig, env, bundle, cdn } = await front(good)
    const proxy = await newProxy()
    const given = { ...env, SSL_CERT_FILE: bundle, HTTPS_PROXY: proxy.url }
    await rig.mustRun('upload', { env: given })
    await rig.mustRun('download', { env: given })
    await rig.expectDownloaded(model)
    expect(proxy.asked.every((line) => line.startsWith('CONNECT '))).toBe(true)
    expect(hosts(proxy)).toEqual(new Set([env.HF_ENDPOINT, env.ENDPOINT, cdn].map(host)))
  })

  test('that wants a login, and is named without a scheme', async ({ front, newProxy }) => {
    const { rig, env, bundle } = await front(good)
    const proxy = await newProxy('user:p@ss word')
    const address = proxy.url.replace('http://', 'user:p%40ss%20word@')
    for (const given of [
      { SSL_CERT_FILE: bundle, HTTP_PROXY: address },
      { ...env, SSL_CERT_FILE: bundle, HTTPS_PROXY: `http://${address}` },
    ]) {
      await rig.mustRun('upload', { env: given })
      await rig.mustRun('download', { env: given })
    }
    await rig.expectDownloaded(model)
  })

  test('not for what NO_PROXY names', async ({ newRig, newProxy }) => {
    const rig = await newRig({ models: [model] })
    const proxy = await newProxy()
    await rig.mustRun('upload', { env: { HTTP_PROXY: proxy.url, NO_PROXY: 'localhost,127.0.0.1' } })
    expect(proxy.asked).toEqual([])
  })

  test('that is not there', async ({ newRig, newProxy }) => {
    const rig = await newRig({ models: [model] })
    const proxy = await newProxy()
    await proxy.close()
    const address = proxy.url.replace('//', '//user:hidden-word@')
    for (const NO_PROXY of [host(rig.hub.url), host(rig.spaces.url)]) {
      const end = await rig.runMover('upload', { env: { HTTP_PROXY: address, NO_PROXY }, patch: QUICK })
      expect(end, end.log).toMatchObject({ code: 1, message: { cause: 'connection' } })
      expect(end.message?.detail).toContain('proxy')
      expect(end.log + JSON.stringify(end.message)).not.toContain('hidden-word')
    }
  })

  test.for([
    ['of another kind', 'socks5://127.0.0.1:1080'],
    ['that is no address', 'http://'],
    ['with a slash in its password', 'http://user:hidden/word@127.0.0.1:3128'],
    ['with a slash behind the digits of its password', 'http://user:12/hidden-word@127.0.0.1:3128'],
    ['with a hash in its password', 'user:hidden#word@127.0.0.1:3128'],
    ['with a question mark in its password', 'http://user:hidden?word@127.0.0.1:3128'],
    ['on a port that is none', 'http://127.0.0.1:hidden'],
    ['on a port that is too large', 'http://127.0.0.1:65536'],
  ])('%s', async ([, address], { newRig }) => {
    const rig = await newRig({ models: [model] })
    const end = await rig.runMover('upload', { env: { HTTPS_PROXY: address } })
    expect(end, end.log).toMatchObject({ code: 64, message: { cause: 'bad-settings' } })
    expect(end.message?.detail).toContain('HTTPS_PROXY')
    expect(end.log + JSON.stringify(end.message)).not.toContain('hidden')
  })
})
