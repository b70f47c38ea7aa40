import { createHash } from 'node:crypto'
import { type Answer, rangeAnswer } from '../http.mts'
import type { Bucket, ObjectHeaders, StoredObject } from './bucket.mts'
import { type CutListings, listObjects, listParts, listUploads } from './listing.mts'
import { completeUpload } from './multipart.mts'
import type { SpacesRequest } from './request.mts'
import type { Piece, Store } from './store.mts'
import { elements, S3Error, texts, xmlAnswer } from './xml.mts'

/** What the operations work on. */
export interface Shelf {
  buckets: Map<string, Bucket>
  store: Store
  region: string
  pageSize: number
  minPartSize: number
  cutListings: CutListings
  rights: { list: boolean }
  createBucket(name: string): void
}

const MAX_PUT = 5 * 1024 ** 3
const MAX_PARTS = 10_000

/** Carries an authorized request out. Throws S3Error for what S3 refuses. */
export async function operate(shelf: Shelf, request: SpacesRequest, body: AsyncIterable<Buffer>): Promise<Answer> {
  const { operation, query } = request
  if (operation === 'unknown') throw new S3Error(501, 'NotImplemented')
  if (operation === 'CreateBucket') return createBucket(shelf, request, await document(request, body))
  const bucket = shelf.buckets.get(request.bucket)
  if (!bucket) throw new S3Error(404, 'NoSuchBucket')
  switch (operation) {
    case 'HeadBucket':
      return { status: 200 }
    case 'GetBucketLocation':
      return xmlAnswer(200, 'LocationConstraint', shelf.region)
    case 'ListObjects':
    case 'ListObjectsV2':
      return listObjects(request, bucket, { pageSize: shelf.pageSize, cut: shelf.cutListings })
    case 'ListMultipartUploads':
      return listUploads(request, bucket, shelf.pageSize)
    case 'ListParts':
      return listParts(request, bucket, shelf.pageSize)
    case 'GetObject':
    case 'HeadObject':
      return readObject(shelf, request, bucket)
    case 'PutObject':
      return putObject(shelf, request, bucket, body)
    case 'DeleteObject':
      bucket.delete(request.key)
      return { status: 204 }
    case 'DeleteObjects':
      return deleteObjects(bucket, await document(request, body))
    case 'CreateMultipartUpload': {
      const { id } = bucket.startUpload(request.key, objectHeaders(request))
      return xmlAnswer(200, 'InitiateMultipartUploadResult', { Bucket: bucket.name, Key: request.key, UploadId: id })
    }
    case 'UploadPart':
      return uploadPart(shelf, request, bucket, body)
    case 'CompleteMultipartUpload':
      return completeUpload(request, bucket, await document(request, body), shelf.minPartSize)
    case 'AbortMultipartUpload':
      bucket.abort(bucket.upload(request.key, query.get('uploadId') ?? ''))
      return { status: 204 }
  }
}

/** Ceph refuses a region other than the zone's own. */
function createBucket(shelf: Shelf, request: SpacesRequest, configuration: string): Answer {
  const region = texts(configuration, 'LocationConstraint')[0] ?? shelf.region
  if (region !== shelf.region) throw new S3Error(400, 'InvalidLocationConstraint')
  shelf.createBucket(request.bucket)
  return { status: 200 }
}

function readObject(shelf: Shelf, request: SpacesRequest, bucket: Bucket): Answer {
  const object = bucket.objects.get(request.key)
  // Who may not list must not learn from this which keys exist.
  if (!object) throw shelf.rights.list ? new S3Error(404, 'NoSuchKey') : new S3Error(403, 'AccessDenied')
  if (!agrees(request.headers['if-match'], object)) throw new S3Error(412, 'PreconditionFailed')
  const answer = rangeAnswer(object.content, request.method === 'GET' ? request.range : undefined, {
    'content-type': 'binary/octet-stream',
    ...object.headers,
    etag: `"${object.etag}"`,
    'last-modified': object.lastModified.toUTCString(),
  })
  if (answer.status === 416) throw new S3Error(416, 'InvalidRange')
  return answer
}

async function putObject(
  shelf: Shelf,
  request: SpacesRequest,
  bucket: Bucket,
  body: AsyncIterable<Buffer>,
): Promise<Answer> {
  const piece = await receive(shelf, request, body)
  const existing = bucket.objects.get(request.key)
  const { 'if-none-match': none, 'if-match': match } = request.headers
  if ((none !== undefined && existing && agrees(none, existing)) || !agrees(match, existing)) {
    piece.discard()
    throw new S3Error(412, 'PreconditionFailed')
  }
  return { status: 200, headers: { etag: `"${bucket.put(request.key, piece, objectHeaders(request)).etag}"` } }
}

/** Whether an If-Match or If-None-Match header names this object; no header agrees with everything. */
function agrees(condition: string | undefined, object: StoredObject | undefined): boolean {
  if (condition === undefined) return true
  return object !== undefined && (condition === '*' || condition.replaceAll('"', '') === object.etag)
}

async function uploadPart(
  shelf: Shelf,
  request: SpacesRequest,
  bucket: Bucket,
  body: AsyncIterable<Buffer>,
): Promise<Answer> {
  const id = request.query.get('uploadId') ?? ''
  const number = Number(request.query.get('partNumber'))
  if (!Number.isInteger(number) || number < 1 || number > MAX_PARTS) throw new S3Error(400, 'InvalidArgument')
  bucket.upload(request.key, id)
  const piece = await receive(shelf, request, body)
  try {
    // Once more: it may have been finished or aborted while the body came in.
    const part = bucket.addPart(bucket.upload(request.key, id), number, piece)
    return { status: 200, headers: { etag: `"${part.etag}"` } }
  } catch (error) {
    piece.discard()
    throw error
  }
}

function deleteObjects(bucket: Bucket, list: string): Answer {
  const keys = elements(list, 'Object').flatMap((object) => texts(object, 'Key').slice(0, 1))
  if (keys.length === 0 || keys.length > 1000) throw new S3Error(400, 'MalformedXML')
  for (const key of keys) bucket.delete(key)
  const quiet = texts(list, 'Quiet')[0] === 'true'
  return xmlAnswer(200, 'DeleteResult', { Deleted: quiet ? [] : keys.map((Key) => ({ Key })) })
}

function objectHeaders({ headers }: SpacesRequest): ObjectHeaders {
  const kept = Object.entries(headers).filter(([name]) => name === 'content-type' || name.startsWith('x-amz-meta-'))
  return Object.fromEntries(kept.map(([name, value]) => [name, String(value)]))
}

/** A small XML body as text. */
async function document(request: SpacesRequest, body: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of body) chunks.push(chunk)
  const bytes = Buffer.concat(chunks)
  const md5 = createHash('md5').update(bytes).digest('hex')
  checkDigests(request, { md5, sha256: createHash('sha256').update(bytes).digest('hex') })
  return bytes.toString()
}

/** An object's or a part's body, checked against what the client says about it. */
async function receive(shelf: Shelf, request: SpacesRequest, body: AsyncIterable<Buffer>): Promise<Piece> {
  const length = request.headers['content-length']
  if (length === undefined || framed(request)) throw new S3Error(411, 'MissingContentLength')
  if (Number(length) > MAX_PUT) throw new S3Error(400, 'EntityTooLarge')
  const piece = await shelf.store.receive(body, request.headers['x-amz-content-sha256'] !== 'UNSIGNED-PAYLOAD')
  try {
    checkDigests(request, piece)
  } catch (error) {
    piece.discard()
    throw error
  }
  return piece
}

/** Bodies in signed or checksummed frames, which Ceph (16.2) takes for bodies of unknown length. */
function framed({ headers }: SpacesRequest): boolean {
  return (
    /aws-chunked/.test(headers['content-encoding'] ?? '') || /^STREAMING-/.test(String(headers['x-amz-content-sha256']))
  )
}

/** Content-MD5 and x-amz-content-sha256 are checked; checksums of any other kind are accepted unread, as Ceph does. */
function checkDigests({ headers }: SpacesRequest, { md5, sha256 }: { md5: string; sha256?: string }): void {
  const claimed = headers['content-md5']
  if (claimed !== undefined && claimed !== Buffer.from(md5, 'hex').toString('base64'))
    throw new S3Error(400, 'BadDigest')
  const signed = headers['x-amz-content-sha256']
  if (sha256 && signed !== 'UNSIGNED-PAYLOAD' && signed !== sha256) throw new S3Error(400, 'XAmzContentSHA256Mismatch')
}
