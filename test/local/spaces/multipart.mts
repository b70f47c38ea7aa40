import type { Answer } from '../http.mts'
import { type Bucket, multipartEtag, type Part, type Upload } from './bucket.mts'
import type { SpacesRequest } from './request.mts'
import { elements, S3Error, texts, xmlAnswer } from './xml.mts'

/** CompleteMultipartUpload, with Ceph's empty ETag in the answer. */
export function completeUpload(request: SpacesRequest, bucket: Bucket, document: string, minPartSize: number): Answer {
  const claims = readClaims(document)
  const upload = bucket.uploads.get(request.query.get('uploadId') ?? '')
  if (upload?.key === request.key) {
    bucket.complete(upload, checkParts(upload, claims, minPartSize))
  } else if (bucket.objects.get(request.key)?.etag !== multipartEtag(claims.map(({ etag }) => etag))) {
    // Ceph takes a repeated call for done when the object is the one that these parts make.
    throw new S3Error(404, 'NoSuchUpload')
  }
  const { host } = request
  return xmlAnswer(200, 'CompleteMultipartUploadResult', {
    Location: `http://${host}/${bucket.name}/${encodeURI(request.key)}`,
    Bucket: bucket.name,
    Key: request.key,
    ETag: '',
  })
}

interface Claim {
  number: number
  etag: string
}

function readClaims(document: string): Claim[] {
  const claims = elements(document, 'Part').map((part) => ({
    number: Number(texts(part, 'PartNumber')[0]),
    etag: (texts(part, 'ETag')[0] ?? '').replaceAll('"', ''),
  }))
  if (claims.length === 0) throw new S3Error(400, 'MalformedXML')
  return claims
}

/**
 * The parts that the client names. Unlike AWS, Ceph wants all that were uploaded to be named ("total parts mismatch" in
 * RadosMultipartUpload::complete, rgw_sal_rados.cc): one left over from an earlier try makes the call fail.
 */
function checkParts(upload: Upload, claims: Claim[], minPartSize: number): Part[] {
  if (claims.length !== upload.parts.size) throw new S3Error(400, 'InvalidPart')
  let before = 0
  return claims.map(({ number, etag }, index) => {
    if (number <= before) throw new S3Error(400, 'InvalidPartOrder')
    before = number
    const part = upload.parts.get(number)
    if (part?.etag !== etag) throw new S3Error(400, 'InvalidPart')
    if (index < claims.length - 1 && part.content.size < minPartSize) throw new S3Error(400, 'EntityTooSmall')
    return part
  })
}
