import type { SeenRequest } from '../http.mts'

export type Operation =
  | 'CreateBucket'
  | 'HeadBucket'
  | 'GetBucketLocation'
  | 'ListObjects'
  | 'ListObjectsV2'
  | 'ListMultipartUploads'
  | 'DeleteObjects'
  | 'PutObject'
  | 'GetObject'
  | 'HeadObject'
  | 'DeleteObject'
  | 'CreateMultipartUpload'
  | 'UploadPart'
  | 'CompleteMultipartUpload'
  | 'AbortMultipartUpload'
  | 'ListParts'
  | 'unknown'

/** A request with what S3 reads out of it. */
export interface SpacesRequest extends SeenRequest {
  readonly bucket: string
  /** Decoded; empty for calls on the bucket. */
  readonly key: string
  readonly operation: Operation
}

const ON_BUCKET: Record<string, Operation> = {
  PUT: 'CreateBucket',
  HEAD: 'HeadBucket',
  GET: 'ListObjects',
  'GET list-type=2': 'ListObjectsV2',
  'GET location': 'GetBucketLocation',
  'GET uploads': 'ListMultipartUploads',
  'POST delete': 'DeleteObjects',
}
const ON_OBJECT: Record<string, Operation> = {
  PUT: 'PutObject',
  GET: 'GetObject',
  HEAD: 'HeadObject',
  DELETE: 'DeleteObject',
  'POST uploads': 'CreateMultipartUpload',
  'PUT partNumber uploadId': 'UploadPart',
  'POST uploadId': 'CompleteMultipartUpload',
  'DELETE uploadId': 'AbortMultipartUpload',
  'GET uploadId': 'ListParts',
}
/** Parameters that shape an answer without choosing the operation. */
const SHAPING = new Set([
  'prefix',
  'delimiter',
  'marker',
  'max-keys',
  'encoding-type',
  'continuation-token',
  'start-after',
  'fetch-owner',
  'part-number-marker',
  'max-parts',
  'key-marker',
  'upload-id-marker',
  'max-uploads',
])
export const CHANGES: ReadonlySet<Operation> = new Set<Operation>([
  'CreateBucket',
  'DeleteObjects',
  'PutObject',
  'DeleteObject',
  'CreateMultipartUpload',
  'UploadPart',
  'CompleteMultipartUpload',
  'AbortMultipartUpload',
])

/** Whether a request changes the bucket. */
export function isChange(request: SpacesRequest): boolean {
  return CHANGES.has(request.operation)
}

/** Reads bucket, key and operation out of a path-style request. */
export function readRequest(seen: SeenRequest): SpacesRequest {
  const [, bucket = '', key = ''] = /^\/([^/]*)\/?(.*)$/s.exec(seen.path) ?? []
  const chosen = [...seen.query.keys()]
    .filter((name) => !SHAPING.has(name))
    .sort()
    .map((name) => (name === 'list-type' ? `${name}=${seen.query.get(name)}` : name))
  const operation = (key ? ON_OBJECT : ON_BUCKET)[[seen.method, ...chosen].join(' ')] ?? 'unknown'
  // A copy looks like a PUT but for this header.
  const known = bucket !== '' && seen.headers['x-amz-copy-source'] === undefined
  return { ...seen, bucket, key, operation: known ? operation : 'unknown' }
}
