import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { answer, cut, cutUpload, dieAfter, dieBefore, gate, runAfter, runBefore } from '../local/faults.mts'
import { seededBytes } from '../local/model.mts'
import { startMoto } from '../local/moto.mts'
import { createBucket, type S3 } from '../local/s3.mts'
import { S3Client, type S3Refusal } from '../local/s3-client.mts'
import { signedHeaders } from '../local/spaces/signature.mts'
import { isChange, type Spaces, type SpacesRequest, slowDown, startSpaces } from '../local/spaces.mts'

const root = path.resolve(import.meta.dirname, '../..')
const bin = path.join(root, '.venv/bin')
const dir = mkdtempSync(path.join(os.tmpdir(), 'servers-'))
afterAll(() => rmSync(dir, { recursive: true }))

const Bucket = 'models'
const MiB = 1 << 20
const md5 = (bytes: Uint8Array) => createHash('md5').update(bytes).digest('hex')

interface Listing {
  IsTruncated: boolean
  Contents?: { Key: string; Size: number; ETag: string }[]
  NextContinuationToken?: string
  NextMarker?: string
}

/** The code and status with which a call is refused. */
async function refusal(call: Promise<unknown>): Promise<{ code: string; status: number }> {
  const { code, status } = await call.then(
    () => Promise.reject(new Error('the call was not refused')),
    (error: S3Refusal) => error,
  )
  return { code, status }
}

/** A multipart upload with these parts, not completed; gives what completes it. */
async function startUpload(client: S3Client, Key: string, parts: Buffer[]) {
  const { UploadId } = await client.call<{ UploadId: string }>('CreateMultipartUpload', {
    Bucket,
    Key,
    Metadata: { sha256: 'abc' },
  })
  const Parts: { PartNumber: number; ETag: string }[] = []
  for (const [index, Body] of parts.entries()) {
    const PartNumber = index + 1
    const { ETag } = await client.call<{ ETag: string }>('UploadPart', { Bucket, Key, UploadId, PartNumber, Body })
    Parts.push({ PartNumber, ETag })
  }
  return { Bucket, Key, UploadId, MultipartUpload: { Parts } }
}

describe.each<[string, () => Promise<S3>]>([
  ['moto', () => startMoto({ python: bin })],
  ['spaces', () => startSpaces()],
  ['spaces on disk', () => startSpaces({ dir: mkdtempSync(path.join(dir, 'disk-')) })],
])('%s, seen through botocore', (_name, start) => {
  let s3: S3
  let client: S3Client
  beforeAll(async () => {
    s3 = await start()
    await createBucket(s3, Bucket)
    client = new S3Client(bin, s3)
  })
  afterAll(async () => {
    await client.close()
    await s3.close()
  })

  test('objects are written, read in ranges, listed and deleted', async () => {
    const Key = 'models/org/m/a b/ü+(x)&~*.txt'
    const Body = Buffer.from('0123456789')
    await client.call('PutObject', { Bucket, Key, Body, ContentType: 'text/plain', Metadata: { commit: 'c0ffee' } })
    const head = await client.call('HeadObject', { Bucket, Key })
    expect(head).toMatchObject({ ContentLength: 10, ETag: `"${md5(Body)}"`, Metadata: { commit: 'c0ffee' } })
    const range = await client.call('GetObject', { Bucket, Key, Range: 'bytes=2-4' })
    expect(range).toMatchObject({ Body: Buffer.from('234'), ContentRange: 'bytes 2-4/10' })
    for (const operation of ['ListObjects', 'ListObjectsV2']) {
      const { Contents } = await client.call<Listing>(operation, { Bucket, Prefix: 'models/org/m/' })
      expect(Contents).toMatchObject([{ Key, Size: 10, ETag: `"${md5(Body)}"` }])
    }
    expect(await refusal(client.call('PutObject', { Bucket, Key, Body, IfNoneMatch: '*' }))).toMatchObject({
      status: 412,
    })
    await client.call('DeleteObject', { Bucket, Key })
    expect(await refusal(client.call('HeadObject', { Bucket, Key }))).toMatchObject({ status: 404 })
    expect(await refusal(client.call('GetObject', { Bucket, Key }))).toEqual({ code: 'NoSuchKey', status: 404 })
    const nowhere = { Bucket: 'nowhere', Key }
    expect(await refusal(client.call('GetObject', nowhere))).toEqual({ code: 'NoSuchBucket', status: 404 })
  })

  test('a multipart upload becomes one object', async () => {
    const parts = [seededBytes('1', 5 * MiB), Buffer.from('tail')]
    const upload = await startUpload(client, 'multi', parts)
    const { UploadId } = upload
    const listed = await client.call('ListParts', { Bucket, Key: 'multi', UploadId })
    expect(listed).toMatchObject({ Parts: parts.map(({ length }, i) => ({ PartNumber: i + 1, Size: length })) })
    const unfinished = await client.call('ListMultipartUploads', { Bucket, Prefix: 'multi' })
    expect(unfinished).toMatchObject({ Uploads: [{ Key: 'multi', UploadId }] })
    await client.call('CompleteMultipartUpload', upload)
    const etag = `"${createHash('md5')
      .update(Buffer.concat(parts.map((part) => createHash('md5').update(part).digest())))
      .digest('hex')}-2"`
    const object = await client.call<{ Body: Buffer }>('GetObject', { Bucket, Key: 'multi' })
    expect(object).toMatchObject({ ETag: etag, Metadata: { sha256: 'abc' } })
    expect(object.Body.equals(Buffer.concat(parts))).toBe(true)
    const across = await client.call('GetObject', { Bucket, Key: 'multi', Range: `bytes=${5 * MiB - 1}-${5 * MiB}` })
    expect(across).toMatchObject({ Body: Buffer.concat([parts[0]?.subarray(-1) ?? Buffer.of(), Buffer.from('t')]) })
  })

  test('a multipart upload is aborted, and refused when its parts do not fit', async () => {
    const upload = await startUpload(client, 'aborted', [Buffer.from('small'), Buffer.from('tail')])
    expect(await refusal(client.call('CompleteMultipartUpload', upload))).toEqual({
      code: 'EntityTooSmall',
      status: 400,
    })
    const [first] = upload.MultipartUpload.Parts
    const wrong = { ...upload, MultipartUpload: { Parts: [{ ...first, ETag: `"${'0'.repeat(32)}"` }] } }
    expect(await refusal(client.call('CompleteMultipartUpload', wrong))).toEqual({ code: 'InvalidPart', status: 400 })
    const { UploadId } = upload
    await client.call('AbortMultipartUpload', { Bucket, Key: 'aborted', UploadId })
    const { Uploads } = await client.call<{ Uploads?: object[] }>('ListMultipartUploads', { Bucket, Prefix: 'aborted' })
    expect(Uploads ?? []).toEqual([])
  })
})

test('moto ends with the process that started it, even when that is killed', async () => {
  const program = `import { startMoto } from '${root}/test/local/moto.mts'
    console.log((await startMoto({ python: '${bin}' })).url)`
  const parent = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', program], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [url] = await once(createInterface(parent.stdout), 'line')
  expect((await fetch(url)).ok).toBe(true)
  parent.kill('SIGKILL')
  await vi.waitFor(() => expect(fetch(url)).rejects.toThrow('fetch failed'), { timeout: 10_000 })
})

describe('spaces', () => {
  let s3: Spaces
  let client: S3Client
  beforeEach(async () => {
    s3 = await startSpaces({ buckets: [Bucket], pageSize: 3, minPartSize: 4 })
    client = new S3Client(bin, s3)
  })
  afterEach(async () => {
    await client.close()
    await s3.close()
  })
  const put = (Key: string, text = 'x', more = {}) =>
    client.call('PutObject', { Bucket, Key, Body: Buffer.from(text), ...more })

  test('answers as Ceph where that differs from AWS', async () => {
    const upload = await startUpload(client, 'm', [Buffer.from('four'), Buffer.from('end')])
    const { UploadId } = upload
    for (const time of ['first', 'repeated']) {
      expect(await client.call('CompleteMultipartUpload', upload), time).toMatchObject({ ETag: '' })
    }
    const finished = { Bucket, Key: 'm', UploadId }
    expect(await refusal(client.call('ListParts', finished))).toEqual({ code: 'NoSuchKey', status: 404 })
    const part = { ...finished, PartNumber: 1, Body: Buffer.from('four') }
    expect(await refusal(client.call('UploadPart', part))).toEqual({ code: 'NoSuchUpload', status: 404 })

    const partly = await startUpload(client, 'partly', [Buffer.from('four'), Buffer.from('end')])
    partly.MultipartUpload.Parts.pop()
    expect(await refusal(client.call('CompleteMultipartUpload', partly))).toEqual({ code: 'InvalidPart', status: 400 })

    s3.bucket(Bucket).replace('m', 'other')
    expect(await refusal(client.call('CompleteMultipartUpload', upload)), 'another object now').toMatchObject({
      code: 'NoSuchUpload',
    })
    const abroad = { Bucket: 'new', CreateBucketConfiguration: { LocationConstraint: 'nyc3' } }
    expect(await refusal(client.call('CreateBucket', abroad))).toMatchObject({ status: 400 })
  })

  test('checks body hashes, knows no other checksum, and refuses framed bodies', async () => {
    expect(await refusal(put('k', 'x', { ContentMD5: 'AAAAAAAAAAAAAAAAAAAAAA==' }))).toEqual({
      code: 'BadDigest',
      status: 400,
    })
    await put('k', 'x', { ChecksumCRC32: 'AAAAAA==' })
    expect(await client.call('HeadObject', { Bucket, Key: 'k', ChecksumMode: 'ENABLED' })).not.toHaveProperty(
      'ChecksumCRC32',
    )
    // A body that is not the signed one, as when a bit flips on the way.
    const url = new URL(`${s3.url}/${Bucket}/k`)
    const headers = signedHeaders({ method: 'PUT', url }, s3, 'atl1')
    const flipped = await fetch(url, { method: 'PUT', headers, body: 'y' })
    expect([flipped.status, await flipped.text()]).toEqual([400, expect.stringContaining('XAmzContentSHA256Mismatch')])
    const framed = await fetch(url, {
      method: 'PUT',
      headers: { ...headers, 'content-encoding': 'aws-chunked' },
      body: 'y',
    })
    expect([framed.status, await framed.text()]).toEqual([411, expect.stringContaining('MissingContentLength')])
    expect(s3.bucket(Bucket).objects.get('k')?.etag).toBe(md5(Buffer.from('x')))
  })

  test('believes signatures only', async () => {
    const as = (accessKey: string, secretKey: string) => new S3Client(bin, { url: s3.url, accessKey, secretKey })
    const [stranger, liar] = [as('stranger', s3.secretKey), as(s3.accessKey, 'wrong')]
    const listing = { Bucket }
    expect(await refusal(stranger.call('ListObjectsV2', listing))).toEqual({ code: 'InvalidAccessKeyId', status: 403 })
    expect(await refusal(liar.call('ListObjectsV2', listing))).toEqual({ code: 'SignatureDoesNotMatch', status: 403 })
    await Promise.all([stranger.close(), liar.close()])
    expect((await fetch(`${s3.url}/${Bucket}`)).status, 'without any').toBe(403)
    s3.clock.ahead = 16 * 60 * 1000
    expect(await refusal(client.call('ListObjectsV2', listing))).toEqual({ code: 'RequestTimeTooSkewed', status: 403 })
    s3.clock.ahead = -14 * 60 * 1000
    await client.call('ListObjectsV2', listing)
  })

  test('keeps to the rights of the key', async () => {
    s3.rights.write = false
    expect(await refusal(put('k'))).toEqual({ code: 'AccessDenied', status: 403 })
    const upload = client.call('CreateMultipartUpload', { Bucket, Key: 'k' })
    expect(await refusal(upload)).toEqual({ code: 'AccessDenied', status: 403 })
    expect(await refusal(client.call('HeadObject', { Bucket, Key: 'k' }))).toMatchObject({ status: 404 })
    s3.rights.list = false
    expect(await refusal(client.call('HeadObject', { Bucket, Key: 'k' }))).toMatchObject({ status: 403 })
    expect(await refusal(client.call('ListObjects', { Bucket }))).toEqual({ code: 'AccessDenied', status: 403 })
  })

  test('pages listings in byte order, and ends them early when told to', async () => {
    const keys = ['a', 'b/1', 'b/2', 'c', 'd', '\uffee', '\u{1f600}']
    for (const key of keys) s3.bucket(Bucket).replace(key, 'x')
    const list = async (operation: string, parameters: object = {}) => {
      const found: string[] = []
      for (let more = {}; ; ) {
        const page = await client.call<Listing>(operation, { Bucket, ...parameters, ...more })
        found.push(...(page.Contents ?? []).map(({ Key }) => Key))
        if (!page.IsTruncated) return found
        more =
          operation === 'ListObjects' ? { Marker: page.NextMarker } : { ContinuationToken: page.NextContinuationToken }
      }
    }
    expect(await list('ListObjects')).toEqual(keys)
    expect(await list('ListObjectsV2')).toEqual(keys)
    expect(await list('ListObjectsV2', { StartAfter: 'b/1', Delimiter: '/' })).toEqual([
      'c',
      'd',
      '\uffee',
      '\u{1f600}',
    ])
    s3.listing.cut = 'v2'
    expect(await list('ListObjectsV2')).toEqual(keys.slice(0, 3))
    expect(await list('ListObjects')).toEqual(keys)
    s3.listing.cut = 'all'
    expect(await list('ListObjects')).toEqual(keys.slice(0, 3))
  })

  test('pages parts and uploads, and lets a test set their age', async () => {
    const upload = await startUpload(
      client,
      'k',
      ['one', 'two', '3', '4'].map((text) => Buffer.from(text)),
    )
    const { UploadId } = upload
    const first = await client.call<{ NextPartNumberMarker: number }>('ListParts', { Bucket, Key: 'k', UploadId })
    expect(first).toMatchObject({ IsTruncated: true, NextPartNumberMarker: 3 })
    const part = s3.bucket(Bucket).uploads.get(UploadId)?.parts.get(4)
    if (part) part.lastModified = new Date('2020-01-01T00:00:00Z')
    const PartNumberMarker = first.NextPartNumberMarker
    const rest = await client.call('ListParts', { Bucket, Key: 'k', UploadId, PartNumberMarker })
    expect(rest).toMatchObject({
      IsTruncated: false,
      Parts: [{ PartNumber: 4, LastModified: '2020-01-01T00:00:00+00:00' }],
    })
    const ids = [UploadId]
    for (const Key of ['k', 'k', 'l']) ids.push((await startUpload(client, Key, [])).UploadId)
    const page = await client.call<{ Uploads: object[]; NextKeyMarker: string; NextUploadIdMarker: string }>(
      'ListMultipartUploads',
      { Bucket },
    )
    const { Uploads } = await client.call<{ Uploads: object[] }>('ListMultipartUploads', {
      Bucket,
      KeyMarker: page.NextKeyMarker,
      UploadIdMarker: page.NextUploadIdMarker,
    })
    expect([page.Uploads.length, Uploads.length]).toEqual([3, 1])
    expect(Uploads).toMatchObject([{ Key: 'l', UploadId: ids[3] }])
  })

  test('lets ten requests write one object at a time', async () => {
    let open = () => {}
    const opened = new Promise<void>((resolve) => {
      open = resolve
    })
    let arrived = 0
    // Bodies that do not end keep their requests at work.
    s3.faults.add({
      match: isChange,
      act: ({ carryOut }) =>
        carryOut(
          (async function* () {
            arrived += 1
            await opened
            yield Buffer.of()
          })(),
        ),
    })
    const url = new URL(`${s3.url}/${Bucket}/k`)
    const write = () => fetch(url, { method: 'PUT', headers: signedHeaders({ method: 'PUT', url }, s3, 'atl1') })
    const ten = Array.from({ length: 10 }, write)
    await vi.waitFor(() => expect(arrived).toBe(10))
    const eleventh = await write()
    expect([eleventh.status, await eleventh.text()]).toEqual([503, expect.stringContaining('SlowDown')])
    open()
    expect((await Promise.all(ten)).map(({ status }) => status)).toEqual(Array(10).fill(200))
    expect((await write()).status).toBe(200)
  })

  test('fails as told: overloaded, cut off on the way up and down, broken', async () => {
    const slow = s3.faults.add({ match: isChange, times: 1, act: slowDown })
    expect(await refusal(put('k'))).toEqual({ code: 'SlowDown', status: 503 })
    await put('k')
    expect(slow.hits).toBe(1)
    const upload = s3.faults.add({ match: isChange, act: cutUpload(1000) })
    expect((await refusal(put('k', 'y'.repeat(200_000)))).code).toMatch(/Connection/)
    expect(await s3.bucket(Bucket).objects.get('k')?.bytes(), 'half a body leaves the object alone').toEqual(
      Buffer.from('x'),
    )
    upload.remove()
    const download = s3.faults.add({ match: ({ operation }) => operation === 'GetObject', act: cut(5) })
    s3.bucket(Bucket).replace('k', '0123456789')
    expect((await refusal(client.call('GetObject', { Bucket, Key: 'k' }))).code).toMatch(/Response|Incomplete/)
    download.remove()
    s3.faults.add({ match: isChange, act: answer(500, {}, '<Error><Code>InternalError</Code></Error>') })
    expect(await refusal(put('k'))).toEqual({ code: 'InternalError', status: 500 })
  })

  test('lets a test act around every change, so that clients can die between them', async () => {
    const story: string[] = []
    const objects = () => [...s3.bucket(Bucket).objects.keys()].join()
    const tell =
      (when: string) =>
      ({ operation }: SpacesRequest) =>
        story.push(`${when} ${operation}: ${objects()}`)
    const around = [
      s3.faults.add({ match: isChange, act: runBefore(tell('before')) }),
      s3.faults.add({ match: isChange, act: runAfter(tell('after')) }),
    ]
    await put('a')
    await client.call('HeadObject', { Bucket, Key: 'a' })
    expect(story).toEqual(['before PutObject: ', 'after PutObject: a'])
    for (const fault of around) fault.remove()
    s3.faults.add({ match: isChange, times: 1, act: dieBefore(tell('lost')) })
    expect((await refusal(put('b'))).code).toBe('ConnectionClosedError')
    s3.faults.add({ match: isChange, times: 1, act: dieAfter(tell('done')) })
    expect((await refusal(put('c'))).code).toBe('ConnectionClosedError')
    expect(story.slice(2)).toEqual(['lost PutObject: a', 'done PutObject: a,c'])
    expect(objects()).toBe('a,c')

    const door = gate<SpacesRequest>()
    s3.faults.add({ match: isChange, act: door.act })
    const held = put('d')
    expect(await door.arrived).toMatchObject({ operation: 'PutObject', key: 'd', status: 0 })
    expect(objects()).toBe('a,c')
    door.open()
    await held
    expect(objects()).toBe('a,c,d')
  })

  test('logs what was asked and how much went each way', async () => {
    await put('k', '0123456789')
    await client.call('GetObject', { Bucket, Key: 'k', Range: 'bytes=0-3' })
    expect(s3.requests).toMatchObject([
      { operation: 'PutObject', bucket: Bucket, key: 'k', status: 200, received: 10 },
      { operation: 'GetObject', bucket: Bucket, key: 'k', status: 206, sent: 4, range: 'bytes=0-3' },
    ])
  })

  test('refuses calls that it does not know', async () => {
    expect(await refusal(client.call('GetBucketVersioning', { Bucket }))).toEqual({
      code: 'NotImplemented',
      status: 501,
    })
    const copy = { Bucket, Key: 'k', CopySource: { Bucket, Key: 'k' } }
    expect(await refusal(client.call('CopyObject', copy))).toEqual({ code: 'NotImplemented', status: 501 })
  })
})

test('spaces keeps bytes in a folder and removes those that nothing holds any more', async () => {
  const pieces = mkdtempSync(path.join(dir, 'disk-'))
  const s3 = await startSpaces({ buckets: [Bucket], dir: pieces, minPartSize: 1 })
  const client = new S3Client(bin, s3)
  const files = () => readdirSync(pieces).length
  await client.call('PutObject', { Bucket, Key: 'k', Body: Buffer.from('old') })
  const upload = await startUpload(client, 'k', [Buffer.from('one'), Buffer.from('two')])
  const { UploadId } = upload
  const again = { Bucket, Key: 'k', UploadId, PartNumber: 1, Body: Buffer.from('ONE') }
  const { ETag } = await client.call<{ ETag: string }>('UploadPart', again)
  expect(files()).toBe(3)
  upload.MultipartUpload.Parts[0] = { PartNumber: 1, ETag }
  await client.call('CompleteMultipartUpload', upload)
  expect(files(), 'the parts').toBe(2)
  expect(await client.call('GetObject', { Bucket, Key: 'k' })).toMatchObject({ Body: Buffer.from('ONEtwo') })
  const aborted = await startUpload(client, 'other', [Buffer.from('x')])
  await client.call('AbortMultipartUpload', { Bucket, Key: 'other', UploadId: aborted.UploadId })
  await client.call('DeleteObjects', { Bucket, Delete: { Objects: [{ Key: 'k' }] } })
  expect(files()).toBe(0)
  await client.close()
  await s3.close()
})
