import type { Answer } from '../http.mts'
import { type Bucket, type Part, page, type StoredObject, type Upload } from './bucket.mts'
import type { SpacesRequest } from './request.mts'
import { S3Error, xmlAnswer } from './xml.mts'

/** Which listings of objects end early and say that they are complete, as DigitalOcean reports of its v2 listing. */
export type CutListings = 'none' | 'v2' | 'all'

interface Limits {
  pageSize: number
  cut: CutListings
}

/** ListObjects and ListObjectsV2. */
export function listObjects(request: SpacesRequest, bucket: Bucket, { pageSize, cut }: Limits): Answer {
  const v2 = request.operation === 'ListObjectsV2'
  const { query } = request
  const [prefix, delimiter] = [query.get('prefix') ?? '', query.get('delimiter') ?? '']
  const after = v2 ? (query.get('continuation-token') ?? query.get('start-after') ?? '') : (query.get('marker') ?? '')
  const max = limit(query.get('max-keys'), pageSize)
  const { rows, next } = page(grouped(bucket.objects, prefix, delimiter), after, max)
  const truncated = next !== undefined && cut !== 'all' && !(cut === 'v2' && v2)
  const text = encoder(request)
  const paging = v2
    ? {
        KeyCount: rows.length,
        ContinuationToken: query.get('continuation-token') ?? undefined,
        ...(truncated && { NextContinuationToken: next }),
      }
    : { Marker: text(after), ...(truncated && { NextMarker: text(next) }) }
  return xmlAnswer(200, 'ListBucketResult', {
    Name: bucket.name,
    Prefix: text(prefix),
    Delimiter: delimiter ? text(delimiter) : undefined,
    MaxKeys: max,
    EncodingType: query.get('encoding-type') ?? undefined,
    IsTruncated: truncated,
    ...paging,
    Contents: rows.flatMap(([key, object]) => (object ? [contents(text(key), object)] : [])),
    CommonPrefixes: rows.flatMap(([name, object]) => (object ? [] : [{ Prefix: text(name) }])),
  })
}

function contents(key: string, { etag, lastModified, content }: StoredObject) {
  const modified = lastModified.toISOString()
  return { Key: key, LastModified: modified, ETag: `"${etag}"`, Size: content.size, StorageClass: 'STANDARD' }
}

/** Keys with their objects; those that share a stem up to the delimiter become one row without an object. */
function grouped(
  objects: Map<string, StoredObject>,
  prefix: string,
  delimiter: string,
): Map<string, StoredObject | undefined> {
  const rows = new Map<string, StoredObject | undefined>()
  for (const [key, object] of objects) {
    if (!key.startsWith(prefix)) continue
    const end = delimiter ? key.indexOf(delimiter, prefix.length) : -1
    if (end < 0) rows.set(key, object)
    else rows.set(key.slice(0, end + delimiter.length), undefined)
  }
  return rows
}

/** ListMultipartUploads: the unfinished ones, by key and id. */
export function listUploads(request: SpacesRequest, bucket: Bucket, pageSize: number): Answer {
  const { query } = request
  const prefix = query.get('prefix') ?? ''
  const max = limit(query.get('max-uploads'), pageSize)
  const marker = query.get('key-marker')
  // A key marker alone stands behind all uploads of that key; with an id it stands behind that one.
  const after = marker === null ? '' : `${marker}\0${query.get('upload-id-marker') ?? '\u{10ffff}'}`
  const all = [...bucket.uploads.values()].filter(({ key }) => key.startsWith(prefix))
  const { rows, next } = page(
    all.map((upload): [string, Upload] => [`${upload.key}\0${upload.id}`, upload]),
    after,
    max,
  )
  const text = encoder(request)
  const [nextKey, nextId] = next?.split('\0') ?? []
  return xmlAnswer(200, 'ListMultipartUploadsResult', {
    Bucket: bucket.name,
    Prefix: text(prefix),
    KeyMarker: text(marker ?? ''),
    NextKeyMarker: nextKey && text(nextKey),
    NextUploadIdMarker: nextId,
    EncodingType: query.get('encoding-type') ?? undefined,
    MaxUploads: max,
    IsTruncated: next !== undefined,
    Upload: rows.map(([, { key, id, initiated }]) => ({
      Key: text(key),
      UploadId: id,
      StorageClass: 'STANDARD',
      Initiated: initiated.toISOString(),
    })),
  })
}

/** ListParts. Ceph answers NoSuchKey for an upload that is finished or unknown. */
export function listParts(request: SpacesRequest, bucket: Bucket, pageSize: number): Answer {
  const { query } = request
  const upload = bucket.uploads.get(query.get('uploadId') ?? '')
  if (upload?.key !== request.key) throw new S3Error(404, 'NoSuchKey')
  const marker = Number(query.get('part-number-marker') ?? 0)
  const max = limit(query.get('max-parts'), pageSize)
  const behind = [...upload.parts.values()].filter(({ number }) => number > marker).sort((a, b) => a.number - b.number)
  const shown = behind.slice(0, max)
  return xmlAnswer(200, 'ListPartsResult', {
    Bucket: bucket.name,
    Key: upload.key,
    UploadId: upload.id,
    StorageClass: 'STANDARD',
    PartNumberMarker: marker,
    NextPartNumberMarker: shown.at(-1)?.number ?? marker,
    MaxParts: max,
    IsTruncated: behind.length > shown.length,
    Part: shown.map(partRow),
  })
}

function partRow({ number, lastModified, etag, content }: Part) {
  return { PartNumber: number, LastModified: lastModified.toISOString(), ETag: `"${etag}"`, Size: content.size }
}

function limit(asked: string | null, pageSize: number): number {
  return Math.min(asked === null ? pageSize : Number(asked), pageSize)
}

/** Names go out percent-encoded when the client asks for that, as XML cannot hold every character. */
function encoder({ query }: SpacesRequest): (text: string | undefined) => string {
  return query.get('encoding-type') === 'url' ? (text = '') => encodeURIComponent(text) : (text = '') => text
}
