import type { SpacesRequest } from './request.mts'
import { type Credentials, readClaim, signatureOf } from './signature.mts'
import { S3Error } from './xml.mts'

/** What the key may do. Reading is always allowed. */
export interface Rights {
  write: boolean
  list: boolean
}

const SKEW = 15 * 60 * 1000

/** Refuses a request that is not signed with the key, or that was signed too long ago by the server's clock. */
export function checkSignature(request: SpacesRequest, { accessKey, secretKey }: Credentials, now: Date): void {
  const { headers } = request
  const claim = readClaim(headers.authorization)
  if (!claim) throw new S3Error(403, 'AccessDenied')
  if (claim.accessKey !== accessKey) throw new S3Error(403, 'InvalidAccessKeyId')
  const time = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(String(headers['x-amz-date']))?.slice(1)
  if (!time) throw new S3Error(403, 'AccessDenied')
  const [year, month, day, hour, minute, second] = time.map(Number) as [number, number, number, number, number, number]
  const signedAt = Date.UTC(year, month - 1, day, hour, minute, second)
  if (Math.abs(now.getTime() - signedAt) > SKEW) throw new S3Error(403, 'RequestTimeTooSkewed')
  const lines = Object.fromEntries(claim.signedHeaders.map((name) => [name, String(headers[name] ?? '')]))
  const content = String(headers['x-amz-content-sha256'])
  const signable = {
    method: request.method,
    url: request.url,
    headers: { ...lines, 'x-amz-content-sha256': content, 'x-amz-date': String(headers['x-amz-date']) },
  }
  if (signatureOf(signable, claim, secretKey) !== claim.signature) throw new S3Error(403, 'SignatureDoesNotMatch')
}

const NEEDS: Partial<Record<SpacesRequest['operation'], keyof Rights>> = {
  CreateBucket: 'write',
  DeleteObjects: 'write',
  PutObject: 'write',
  DeleteObject: 'write',
  CreateMultipartUpload: 'write',
  UploadPart: 'write',
  CompleteMultipartUpload: 'write',
  AbortMultipartUpload: 'write',
  HeadBucket: 'list',
  ListObjects: 'list',
  ListObjectsV2: 'list',
  ListMultipartUploads: 'list',
}

/** Refuses what the key has no right to. */
export function checkRights({ operation }: SpacesRequest, rights: Rights): void {
  const need = NEEDS[operation]
  if (need && !rights[need]) throw new S3Error(403, 'AccessDenied')
}
