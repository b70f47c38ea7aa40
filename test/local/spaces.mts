import { type Act, Faults } from './faults.mts'
import { type Answer, listen, type SeenRequest } from './http.mts'
import type { S3 } from './s3.mts'
import { checkRights, checkSignature, type Rights } from './spaces/access.mts'
import { Bucket } from './spaces/bucket.mts'
import type { CutListings } from './spaces/listing.mts'
import { operate, type Shelf } from './spaces/operations.mts'
import { readRequest, type SpacesRequest } from './spaces/request.mts'
import { Store } from './spaces/store.mts'
import { S3Error, xmlAnswer } from './spaces/xml.mts'

export { CHANGES, isChange, type SpacesRequest } from './spaces/request.mts'

export interface SpacesOptions {
  /** Address to listen on; default 127.0.0.1. */
  host?: string
  /** Buckets that exist from the start. */
  buckets?: string[]
  /** Keeps the bytes in files of this folder; without it in memory. */
  dir?: string
  region?: string
  /** Rows of a page of any listing; 1000 as in S3. */
  pageSize?: number
  /** Bytes that every part but the last must have; 5 MiB as in S3. */
  minPartSize?: number
}

export interface Spaces extends S3 {
  /** Every request, oldest first. */
  requests: SpacesRequest[]
  faults: Faults<SpacesRequest>
  /** What the key may do; change it at any time. */
  rights: Rights
  /** Milliseconds that the server's clock is ahead of this machine's. */
  clock: { ahead: number }
  /** Listings that end early; change it at any time. */
  listing: { cut: CutListings }
  /** A bucket's objects and unfinished uploads, to read and to change. Throws when there is no such bucket. */
  bucket(name: string): Bucket
  /** Cuts every connection and waits for what is being carried out: nothing that a dead client had sent happens later. */
  hangUp(): Promise<void>
}

/** An object may be written by this many requests at a time; more are told to slow down. */
const WRITERS = 10

/** An S3 server that answers as Ceph's gateway does, on which DigitalOcean Spaces is built. Path-style addresses only. */
export async function startSpaces(options: SpacesOptions = {}): Promise<Spaces> {
  const { host = '127.0.0.1', dir, region = 'atl1', pageSize = 1000, minPartSize = 5 * 1024 ** 2 } = options
  const key = { accessKey: 'spaces-access-key', secretKey: 'spaces-secret-key' }
  const clock = { ahead: 0 }
  const now = () => new Date(Date.now() + clock.ahead)
  const rights = { write: true, list: true }
  const listing: { cut: CutListings } = { cut: 'none' }
  const requests: SpacesRequest[] = []
  const faults = new Faults<SpacesRequest>()
  const buckets = new Map<string, Bucket>()
  const createBucket = (name: string) => {
    if (!buckets.has(name)) buckets.set(name, new Bucket(name, now))
  }
  for (const name of options.buckets ?? []) createBucket(name)
  const shelf: Shelf = {
    buckets,
    store: new Store(dir),
    region,
    pageSize,
    minPartSize,
    get cutListings() {
      return listing.cut
    },
    rights,
    createBucket,
  }

  const writers = new Map<string, number>()
  const limitWriters = async (request: SpacesRequest, work: () => Promise<Answer>): Promise<Answer> => {
    if (request.method !== 'PUT') return work()
    const count = writers.get(request.path) ?? 0
    if (count >= WRITERS) throw new S3Error(503, 'SlowDown')
    writers.set(request.path, count + 1)
    try {
      return await work()
    } finally {
      writers.set(request.path, (writers.get(request.path) ?? 1) - 1)
    }
  }

  const listener = await listen<SpacesRequest>({
    host,
    requests,
    faults,
    describe: readRequest,
    carryOut: async (request, body) => {
      let answer: Answer
      try {
        checkSignature(request, key, now())
        checkRights(request, rights)
        answer = await limitWriters(request, () => operate(shelf, request, body))
      } catch (error) {
        if (!(error instanceof S3Error)) throw error
        answer = refuse(request, error)
      }
      return { ...answer, headers: { ...answer.headers, date: now().toUTCString() } }
    },
  })
  return {
    url: `http://${host}:${listener.port}`,
    ...key,
    requests,
    faults,
    rights,
    clock,
    listing,
    bucket: (name) => {
      const bucket = buckets.get(name)
      if (!bucket) throw new Error(`the server has no bucket ${name}`)
      return bucket
    },
    hangUp: () => listener.hangUp(),
    close: () => listener.close(),
  }
}

/** A fault: the server is overloaded, as S3 says it. */
export const slowDown: Act<SeenRequest> = async () => xmlAnswer(503, 'Error', { Code: 'SlowDown' })

/** Ceph's error document, which has no message. */
function refuse({ bucket }: SpacesRequest, { status, code }: S3Error): Answer {
  return xmlAnswer(status, 'Error', {
    Code: code,
    BucketName: bucket || undefined,
    RequestId: 'tx0',
    HostId: 'stand-in',
  })
}
