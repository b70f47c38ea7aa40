import { expect } from 'vitest'
import { dieAfter, dieBefore, runBefore } from '../local/faults.mts'
import { isChange, type SpacesRequest } from '../local/spaces.mts'
import type { Fork } from './forks.mts'
import type { Rig } from './mover.mts'
import { type Evidence, sha256 } from './proof.mts'

/** Whether the n-th call is lost with the kill, or is carried out and only its answer is lost. */
export type Moment = 'before' | 'after'

const ABANDONED_MS = 16 * 60 * 1000

/** Kills the mover at the n-th request that matches (from 1). */
export function killAt(
  rig: Rig,
  fork: () => Promise<Fork>,
  moment: Moment,
  n: number,
  match: (request: SpacesRequest) => boolean = isChange,
): { readonly hits: number; remove(): void } {
  let seen = 0
  const die = moment === 'before' ? dieBefore : dieAfter
  return rig.spaces.faults.add({
    match: (request) => match(request) && ++seen === n,
    act: die(async () => (await fork()).kill()),
  })
}

/** Makes the server's clock leap at each listing, so that no run waits for the second after its last object. */
export function hurry(rig: Rig): void {
  rig.spaces.faults.add({
    match: ({ operation, query }) => operation === 'ListObjects' && !query.get('marker'),
    act: runBefore(() => {
      rig.spaces.clock.ahead += 2000
    }),
  })
}

/** An empty bucket, and the server's clock back at this machine's. */
export function emptyBucket(rig: Rig): void {
  rig.bucket.objects.clear()
  rig.bucket.uploads.clear()
  rig.spaces.clock.ahead = 0
}

/** Makes every unfinished upload one that nobody can be working on any more. */
export function ageUploads(rig: Rig, milliseconds = ABANDONED_MS): void {
  for (const upload of rig.bucket.uploads.values()) {
    upload.initiated = new Date(upload.initiated.getTime() - milliseconds)
    for (const part of upload.parts.values()) part.lastModified = new Date(part.lastModified.getTime() - milliseconds)
  }
}

/** Evidence in the bucket is true at any moment, or not there. */
export async function expectNoFalseUpload(rig: Rig): Promise<void> {
  const bytes = await rig.object('.upload-complete')
  if (!bytes) return
  const { files } = JSON.parse(bytes.toString()) as Evidence
  for (const file of files) {
    const object = await rig.object(file.path)
    expect(object && sha256(object), `${file.path} beside its evidence`).toBe(file.sha256)
  }
}

/** The bucket as it stands, to be put back as often as a table of cases needs it. */
export function keepBucket(rig: Rig): () => void {
  const { objects, uploads } = rig.bucket
  const keptObjects = [...objects]
  const keptUploads = [...uploads.values()].map((upload) => ({ ...upload, parts: new Map(upload.parts) }))
  return () => {
    emptyBucket(rig)
    for (const [key, object] of keptObjects) objects.set(key, object)
    for (const upload of keptUploads) uploads.set(upload.id, { ...upload, parts: new Map(upload.parts) })
  }
}
