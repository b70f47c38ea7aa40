import { createHash, createHmac } from 'node:crypto'

/** A key pair; the secret signs, the access key says whose signature it is. */
export interface Credentials {
  accessKey: string
  secretKey: string
}

/** What AWS Signature Version 4 covers. Header names in lower case. */
export interface Signable {
  method: string
  /** Path and query as sent. */
  url: string
  headers: Record<string, string | undefined>
}

/** The parts of an Authorization header of the form `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`. */
export interface Claim {
  accessKey: string
  date: string
  region: string
  signedHeaders: string[]
  signature: string
}

/** Reads an Authorization header; undefined when there is none of this form. */
export function readClaim(authorization: string | undefined): Claim | undefined {
  const form =
    /^AWS4-HMAC-SHA256 Credential=(.+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=(\w+)$/
  const [, accessKey, date, region, signed, signature] = form.exec(authorization ?? '') ?? []
  if (!accessKey || !date || !region || !signed || !signature) return undefined
  return { accessKey, date, region, signedHeaders: signed.split(';'), signature }
}

/** The signature that a request ought to carry for this claim. */
export function signatureOf(
  request: Signable,
  claim: Omit<Claim, 'signature' | 'accessKey'>,
  secretKey: string,
): string {
  const scope = `${claim.date}/${claim.region}/s3/aws4_request`
  const canonical = [
    request.method,
    ...canonicalUrl(request.url),
    ...claim.signedHeaders.map((name) => `${name}:${(request.headers[name] ?? '').trim().replace(/ +/g, ' ')}`),
    '',
    claim.signedHeaders.join(';'),
    request.headers['x-amz-content-sha256'],
  ].join('\n')
  const text = ['AWS4-HMAC-SHA256', request.headers['x-amz-date'], scope, sha256(canonical)].join('\n')
  const key = [claim.date, claim.region, 's3', 'aws4_request'].reduce<Buffer>(hmac, Buffer.from(`AWS4${secretKey}`))
  return hmac(key, text).toString('hex')
}

/** The headers that make a request without a body a signed one. */
export function signedHeaders(
  request: { method: string; url: URL },
  by: Credentials,
  region: string,
): Record<string, string> {
  const date = new Date().toISOString().replace(/[-:]|\.\d+/g, '')
  const headers = { host: request.url.host, 'x-amz-content-sha256': sha256(''), 'x-amz-date': date }
  const claim = { date: date.slice(0, 8), region, signedHeaders: Object.keys(headers) }
  const url = request.url.pathname + request.url.search
  const signature = signatureOf({ method: request.method, url, headers }, claim, by.secretKey)
  const scope = `${by.accessKey}/${claim.date}/${region}/s3/aws4_request`
  return {
    ...headers,
    authorization: `AWS4-HMAC-SHA256 Credential=${scope}, SignedHeaders=${claim.signedHeaders.join(';')}, Signature=${signature}`,
  }
}

/** Path and query, each name and value decoded and encoded anew, the query sorted. */
function canonicalUrl(url: string): [string, string] {
  const [path = '', query = ''] = url.split(/\?(.*)/s)
  const pairs = query
    .split('&')
    .filter(Boolean)
    .map((pair) => pair.split(/=(.*)/s).slice(0, 2))
    .map(([name = '', value = '']) => `${encode(decodeURIComponent(name))}=${encode(decodeURIComponent(value))}`)
  return [
    path
      .split('/')
      .map((part) => encode(decodeURIComponent(part)))
      .join('/'),
    pairs.sort().join('&'),
  ]
}

/** Percent-encoding that leaves only the unreserved characters of RFC 3986. */
function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest()
}
