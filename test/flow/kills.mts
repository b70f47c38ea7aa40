import { mkdir, readFile, rm } from 'node:fs/promises'
import { afterAll, beforeAll, beforeEach, expect } from 'vitest'
import { dieAfter, dieBefore, runAfter, runBefore } from '../local/faults.mts'
import type { HubRepo } from '../local/hub.mts'
import { isChange, type SpacesRequest } from '../local/spaces.mts'
import { type Fork, Forks } from './forks.mts'
import { type Rig, startRig } from './mover.mts'
import { type Evidence, sha256 } from './proof.mts'

/** Whether the n-th call is lost with the kill, or is carried out and only its answer is lost. */
export type Moment = 'before' | 'after'

const ABANDONED_MS = 16 * 60 * 1000

/** The rig and the movers of a file's tests. */
export let rig: Rig
export let forks: Forks

/** Starts them for the file; each test finds the bucket and the volume empty. */
export function useForks(model: HubRepo): void {
  beforeAll(async () => {
    rig = await startRig({ models: [model], env: { BUFFER: '32Mi' } })
    forks = new Forks(rig)
  })
  beforeEach(async () => {
    rig.spaces.faults.clear()
    rig.hub.faults.clear()
    emptyBucket(rig)
    hurry(rig)
    await emptyVolume(rig)
    rig.moved()
  })
  afterAll(async () => {
    await forks?.close()
    await rig?.close()
  })
}

export async function emptyVolume({ volume }: Rig): Promise<void> {
  await rm(volume, { recursive: true })
  await mkdir(volume)
}

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

/** Makes every unfinished upload one that nobody can be working on any more; no mover may run. */
export async function ageUploads(rig: Rig, milliseconds = ABANDONED_MS): Promise<void> {
  // A part that a killed mover had sent may arrive behind its death, and would be a young one.
  await rig.spaces.hangUp()
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

/** Evidence on the volume is true at any moment, or not there. */
export async function expectNoFalseDownload(rig: Rig): Promise<void> {
  if (!(await rig.files()).includes('.download-complete')) return
  const { files } = JSON.parse(await readFile(rig.file('.download-complete'), 'utf8')) as Evidence
  for (const file of files) {
    expect(sha256(await readFile(rig.file(file.path))), `${file.path} beside its evidence`).toBe(file.sha256)
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

/** Kills an upload of this file at its part behind `parts`, once the journal counts all before it. */
export async function killBehindJournal(
  rig: Rig,
  forks: Forks,
  name: string,
  parts: number,
  signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL',
): Promise<void> {
  let tell: () => void = () => undefined
  const counted = new Promise<void>((resolve) => {
    tell = resolve
  })
  const watch = rig.spaces.faults.add({
    match: ({ operation, key }) => operation === 'PutObject' && key.startsWith(rig.key('.upload-journal/')),
    act: runAfter(async () => {
      if ((await journalOf(rig, name))?.journal.etags.length === parts) tell()
    }),
  })
  const fault = rig.spaces.faults.add({
    match: ({ operation, key, query }) =>
      operation === 'UploadPart' && key === rig.key(name) && Number(query.get('partNumber')) === parts + 1,
    act: dieBefore(async () => {
      await counted
      await (await fork).kill(signal)
    }),
  })
  const fork = forks.start('upload')
  expect(await (await fork).end).toMatchObject({ status: signal === 'SIGKILL' ? -9 : 143 })
  watch.remove()
  fault.remove()
}

/** A journal of hop 1, as far as tests look at it. */
export interface Journal {
  path: string
  size: number
  part_size: number
  upload: string
  etags: string[]
  state: string
  sha256: string
}

/** The journal of a file, and its name among the model's objects. */
export async function journalOf(rig: Rig, name: string): Promise<{ key: string; journal: Journal } | undefined> {
  for (const key of rig.objects().filter((key) => key.startsWith('.upload-journal/'))) {
    const journal = JSON.parse(String(await rig.object(key))) as Journal
    if (journal.path === name) return { key, journal }
  }
  return undefined
}
