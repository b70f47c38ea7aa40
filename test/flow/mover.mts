import { writeFileSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { test as base, expect } from 'vitest'
import { Running } from '../local/command.mts'
import { type Hub, type HubOptions, type HubRepo, type HubRequest, startHub } from '../local/hub.mts'
import { seededBytes } from '../local/model.mts'
import { type Spaces, type SpacesOptions, type SpacesRequest, startSpaces } from '../local/spaces.mts'
import { type Evidence, filesBelow, sha256 } from './proof.mts'

export type Verb = 'upload' | 'download' | 'verify' | 'verify-spaces' | 'plan' | 'clean-nfs' | 'clean-spaces'

export interface RigOptions {
  models?: HubRepo[]
  hub?: Omit<HubOptions, 'repos'>
  spaces?: SpacesOptions
  /** Added to the pods' environment; an undefined value takes a variable away. */
  env?: Record<string, string | undefined>
}

export interface MoverOptions {
  env?: Record<string, string | undefined>
  /** Python statements that run before the mover does, such as `import retry; retry.BASE_SECONDS = 0.01`. */
  patch?: string
  /** A command that runs the mover, such as setpriv. */
  via?: string[]
}

/** The termination message. */
export interface Message {
  state: 'done' | 'failed'
  cause?: string
  detail?: string
  next?: string
  commit?: string
  files?: number
  bytes?: number
  moved?: number
  missing?: string[]
  wrong?: string[]
  unknown?: string[]
}

/** How a mover ended. There is no message behind a kill -9. */
export interface MoverEnd {
  code: number | null
  signal: NodeJS.Signals | null
  /** Both streams, as `kubectl logs` shows them. */
  log: string
  seconds: number
  message: Message | undefined
}

/** For `patch`: backs off in milliseconds, so that "gives up in the end" is soon. */
export const QUICK = 'import retry; retry.BASE_SECONDS = 0.01'

/** Also takes a server for stalled that is silent for so long. A busy machine may be, too: only for tests that bear it. */
export function impatient(seconds = 1): string {
  // bucket, which multipart_uploads imports, takes its own copy of the limit.
  return `${QUICK}; import web; web.STALL_SECONDS = ${seconds}; import multipart_uploads; multipart_uploads.COMPLETE_SECONDS = ${seconds}; import volley; volley.PATIENCE_SECONDS = ${seconds}`
}

/** For `patch`: says each call that makes a file last, empties its cache or reads it, with the file's name. */
export const SHOW_CALLS = `
import os
def show(name):
    real = getattr(os, name)
    def shown(descriptor, *args):
        whole = " whole" if name == "posix_fadvise" and args[:2] == (0, 0) else ""
        of = os.readlink(f"/proc/self/fd/{descriptor}").rpartition("/")[2]
        # In one piece: other threads say theirs.
        os.write(1, f"{name}{whole} of {of}\\n".encode())
        return real(descriptor, *args)
    setattr(os, name, shown)
for name in ("fsync", "posix_fadvise", "preadv"):
    show(name)
`

/** What SHOW_CALLS said of a file, in its order. */
export function callsOf(log: string, name: string): string[] {
  const lines = log.split('\n').filter((line) => line.endsWith(` of ${name}`))
  return lines.map((line) => line.slice(0, -` of ${name}`.length))
}

const root = path.resolve(import.meta.dirname, '../..')
const PYTHON = path.join(root, '.venv/bin/python')
const MOVER = path.join(root, 'k8s/mover/mover.py')
const MESSAGE_BYTES = 4096
const SECRETS = ['HF_TOKEN', 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY']

const BUCKET = 'models-bucket'

/** A Hub, a Spaces with one bucket and a volume, between which movers run as processes. */
export async function startRig(options: RigOptions = {}): Promise<Rig> {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'mover-'))
  await mkdir(path.join(dir, 'volume'))
  const hub = await startHub({ ...options.hub, repos: options.models ?? [] })
  const spaces = await startSpaces({ buckets: [BUCKET], ...options.spaces })
  return new Rig(hub, spaces, dir, options)
}

/** Tests that make their own rigs with `newRig`, closed at their end. */
export const test = base.extend('newRig', ({ onTestFinished }) => async (options: RigOptions = {}) => {
  const rig = await startRig(options)
  onTestFinished(() => rig.close())
  return rig
})

export class Rig {
  readonly hub: Hub
  readonly spaces: Spaces
  readonly dir: string
  /** The folder that is mounted at MODELS_DIR. */
  readonly volume: string
  readonly env: Record<string, string | undefined>
  readonly #secrets: string[]
  readonly #running = new Set<Mover>()
  #count = 0

  constructor(hub: Hub, spaces: Spaces, dir: string, { models = [], hub: hubOptions, env }: RigOptions) {
    this.hub = hub
    this.spaces = spaces
    this.dir = dir
    this.volume = path.join(dir, 'volume')
    this.#secrets = [spaces.accessKey, spaces.secretKey, ...Object.keys(hubOptions?.tokens ?? {})]
    this.env = {
      MODEL: models[0]?.id,
      REVISION: 'main',
      BUCKET,
      ENDPOINT: spaces.url,
      AWS_DEFAULT_REGION: 'atl1',
      AWS_ACCESS_KEY_ID: spaces.accessKey,
      AWS_SECRET_ACCESS_KEY: spaces.secretKey,
      HF_ENDPOINT: hub.url,
      // Parts of 5 MiB.
      BUFFER: '64Mi',
      MODELS_DIR: this.volume,
      JOB_UID: 'job-1',
      ...env,
    }
  }

  get model(): string {
    return this.env.MODEL ?? ''
  }

  /** The bucket behind the clients' backs. */
  get bucket(): ReturnType<Spaces['bucket']> {
    return this.spaces.bucket(BUCKET)
  }

  /** Starts `mover.py <verb>` in the pod's environment. */
  startMover(verb: Verb, options: MoverOptions = {}): Mover {
    this.#count += 1
    // As the kubelet makes it, for whichever user the pod runs as.
    const message = path.join(this.dir, `message-${this.#count}`)
    writeFileSync(message, '')
    const env = this.#environment(options)
    const given = SECRETS.flatMap((name) => env[name]?.split(/\s+/).filter(Boolean) ?? [])
    const mover = new Mover(this.#command(verb, options), env, message, [...this.#secrets, ...given])
    this.#running.add(mover)
    const forget = () => this.#running.delete(mover)
    mover.end.then(forget, forget)
    return mover
  }

  /** The same, up to its end. */
  runMover(verb: Verb, options: MoverOptions = {}): Promise<MoverEnd> {
    return this.startMover(verb, options).end
  }

  /** The same, and it must succeed. */
  async mustRun(verb: Verb, options: MoverOptions = {}): Promise<MoverEnd> {
    const end = await this.runMover(verb, options)
    expect(end, end.log).toMatchObject({ code: 0, message: { state: 'done' } })
    return end
  }

  /** The same, and it must fail so: 64 when nothing but the user can help, 1 when a new pod may do better. */
  async mustFail(verb: Verb, code: 1 | 64, cause: string, options: MoverOptions = {}): Promise<Message> {
    const end = await this.runMover(verb, options)
    expect(end, end.log).toMatchObject({ code, message: { state: 'failed', cause } })
    const { detail, next } = end.message ?? {}
    expect([detail, next], 'one sentence each').toEqual([expect.stringMatching(/./), expect.stringMatching(/./)])
    return end.message as Message
  }

  /** An object's bytes by its path in the model; undefined when there is none. */
  async object(name: string): Promise<Buffer | undefined> {
    return this.bucket.objects.get(this.key(name))?.bytes()
  }

  key(name: string): string {
    return `models/${this.model}/${name}`
  }

  /** The paths of the model's objects, the tool's own too, sorted. */
  objects(): string[] {
    const keys = [...this.bucket.objects.keys()].filter((key) => key.startsWith(this.key('')))
    return keys.map((key) => key.slice(this.key('').length)).sort()
  }

  /** Where a file of the model stands on the volume. */
  file(name: string): string {
    return path.join(this.volume, this.model, name)
  }

  /** The paths of the model's files, the tool's own too, sorted. */
  files(): Promise<string[]> {
    return filesBelow(path.join(this.volume, this.model))
  }

  /** Puts the model into the bucket with its evidence, as an upload a minute ago left it. */
  stage(repo: HubRepo, change: Partial<Evidence> = {}): Evidence {
    const evidence = evidenceOf(repo, change)
    for (const { path: name, body } of repo.files) this.putObject(name, body as Uint8Array, 60)
    this.putObject('.upload-complete', documentOf(evidence), 50)
    return evidence
  }

  /** Puts an object behind the clients' backs, so many seconds ago. */
  putObject(name: string, body: Uint8Array | string, secondsAgo = 0): void {
    this.bucket.replace(this.key(name), body)
    const object = this.bucket.objects.get(this.key(name))
    if (object) object.lastModified = new Date(Date.now() - secondsAgo * 1000)
  }

  /** Demands that the bucket holds exactly these files, proved, and nothing of the tool's own but the evidence. */
  async expectUploaded(repo: HubRepo, others: string[] = []): Promise<Evidence> {
    const paths = repo.files.map((file) => file.path)
    expect(this.objects(), 'objects').toEqual(['.upload-complete', ...paths, ...others].sort())
    expect(this.bucket.uploads.size, 'unfinished uploads').toBe(0)
    for (const { path: name, body } of repo.files) expect(sha256(await this.#bytes(name)), name).toBe(digest(body))
    return checkEvidence(await this.#bytes('.upload-complete'), repo)
  }

  /** Demands the same of the volume. */
  async expectDownloaded(repo: HubRepo, others: string[] = []): Promise<Evidence> {
    const paths = repo.files.map((file) => file.path)
    expect(await this.files(), 'files').toEqual(['.download-complete', ...paths, ...others].sort())
    for (const { path: name, body } of repo.files)
      expect(sha256(await readFile(this.file(name))), name).toBe(digest(body))
    return checkEvidence(await readFile(this.file('.download-complete')), repo)
  }

  /** Demands that nothing in the bucket says that the model is there. */
  expectNotUploaded(): void {
    expect(this.objects()).not.toContain('.upload-complete')
  }

  /** Demands that nothing on the volume says so. */
  async expectNotDownloaded(): Promise<void> {
    expect(await this.files()).not.toContain('.download-complete')
  }

  /** Bytes of model files that the Hub has sent, and that the bucket has taken in and handed out, since the last call. */
  moved(): { fromHub: number; intoBucket: number; outOfBucket: number } {
    const total = (sizes: number[]) => sizes.reduce((sum, size) => sum + size, 0)
    // A redirect's body is none of the file's.
    const files = this.hub.requests
      .splice(0)
      .filter(({ server, path, status }) => status < 300 && (server === 'cdn' || path.includes('/resolve/')))
    const objects = this.spaces.requests
      .splice(0)
      .filter(({ key }) => key.startsWith(this.key('')) && !key.startsWith(this.key('.upload-')))
    return {
      fromHub: total(files.map(({ sent }) => sent)),
      intoBucket: total(objects.filter(({ method }) => method === 'PUT').map(({ received }) => received)),
      outOfBucket: total(objects.filter(({ operation }) => operation === 'GetObject').map(({ sent }) => sent)),
    }
  }

  /** Ends what still runs, and removes the volume. */
  async close(): Promise<void> {
    const running = [...this.#running]
    for (const mover of running) mover.kill()
    await Promise.allSettled(running.map(({ end }) => end))
    await Promise.all([this.hub.close(), this.spaces.close()])
    await rm(this.dir, { recursive: true, force: true })
  }

  async #bytes(name: string): Promise<Buffer> {
    const bytes = await this.object(name)
    if (!bytes) throw new Error(`the bucket has no ${name}`)
    return bytes
  }

  #command(verb: Verb, { patch, via = [] }: MoverOptions): string[] {
    if (patch === undefined) return [...via, PYTHON, MOVER, verb]
    const program = `import runpy, sys
sys.path.insert(0, ${JSON.stringify(path.dirname(MOVER))})
${patch}
sys.argv = [${JSON.stringify(MOVER)}, ${JSON.stringify(verb)}]
runpy.run_path(sys.argv[0], run_name="__main__")
`
    return [...via, PYTHON, '-c', program]
  }

  #environment({ env }: MoverOptions): Record<string, string> {
    const all = { PATH: process.env.PATH, ...this.env, ...env }
    return Object.fromEntries(Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined))
  }
}

/** A mover that runs. */
export class Mover {
  readonly end: Promise<MoverEnd>
  readonly #process: Running

  constructor([command = '', ...args]: string[], env: Record<string, string>, message: string, secrets: string[]) {
    this.#process = new Running(command, args, { env: { ...env, TERMINATION_LOG: message } })
    this.end = this.#follow(message, secrets)
  }

  /** What it has said so far. */
  get lines(): string[] {
    return this.#process.stdout.trimEnd().split('\n')
  }

  /** Waits until it has said this; fails when it ends without. */
  says(pattern: RegExp): Promise<RegExpExecArray> {
    return this.#process.says(pattern, 'stdout')
  }

  kill(signal: NodeJS.Signals = 'SIGKILL'): void {
    this.#process.signal(signal)
  }

  /** Every run, whatever its test is about, leaks no secret and leaves a message that fits. */
  async #follow(file: string, secrets: string[]): Promise<MoverEnd> {
    const { code, signal, stdout, stderr, seconds } = await this.#process.outcome
    const written = await readFile(file)
    const log = stdout + stderr
    for (const secret of [...secrets, 'Signature=']) {
      expect(log, 'a secret in the log').not.toContain(secret)
      expect(String(written), 'a secret in the termination message').not.toContain(secret)
    }
    expect(written.length, 'bytes of the termination message').toBeLessThan(MESSAGE_BYTES)
    const message = written.length ? (JSON.parse(written.toString()) as Message) : undefined
    if (code !== null) expect(message?.state, log).toBe(code === 0 ? 'done' : 'failed')
    return { code, signal, log, seconds, message }
  }
}

/** A model with every kind of file that the mover treats in its own way; parts are 5 MiB. */
export function mixedModel(seed = 'first', id = 'acme/mixed'): HubRepo {
  const bytes = (name: string, size: number) => seededBytes(`${seed} ${name}`, size)
  return {
    id,
    files: [
      { path: 'config.json', body: bytes('config.json', 2000) },
      { path: 'adapter.safetensors', body: bytes('adapter.safetensors', 30_000), lfs: true },
      { path: 'tokenizer.json', body: bytes('tokenizer.json', 6_000_000), lfs: false },
      { path: 'model.safetensors', body: bytes('model.safetensors', 12_000_000) },
      { path: 'empty.txt', body: Buffer.alloc(0) },
    ],
  }
}

/** The large file of `twinModels`. */
export const WEIGHTS = 'model.safetensors'

/** The mixed model, and its next commit: only the weights have other bytes, of the same size. */
export function twinModels(): [first: HubRepo, second: HubRepo] {
  const first = mixedModel()
  const body = seededBytes('second weights', 12_000_000)
  const files = first.files.map((file) => (file.path === WEIGHTS ? { ...file, body } : file))
  return [first, { id: first.id, files }]
}

function digest(body: HubRepo['files'][number]['body']): string {
  if (body instanceof Uint8Array) return sha256(body)
  throw new Error('tests compare bytes in memory')
}

function checkEvidence(bytes: Buffer, repo: HubRepo): Evidence {
  const evidence = JSON.parse(bytes.toString()) as Evidence
  expect(evidence).toMatchObject({ schema: 1, model: repo.id, files: evidenceOf(repo).files })
  expect(bytes.toString(), 'the evidence as Python writes it').toBe(documentOf(evidence))
  return evidence
}

/** The evidence of a model, of some commit when none is given. */
export function evidenceOf({ id, files }: HubRepo, change: Partial<Evidence> = {}): Evidence {
  const listed = files.map(({ path: name, body }) => ({
    path: name,
    size: (body as Uint8Array).length,
    sha256: digest(body),
  }))
  // By code point, as Python sorts; the UTF-16 order of JavaScript differs for rare characters.
  listed.sort((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)))
  return {
    schema: 1,
    model: id,
    revision: 'main',
    commit: 'c'.repeat(40),
    include: [],
    exclude: [],
    files: listed,
    tool: 'model-storage-pipeline 0.1.0',
    ...change,
  }
}

export function documentOf(evidence: Evidence): string {
  return `${JSON.stringify(evidence, null, 2)}\n`
}

/** A copy with one bit flipped: same size, other bytes. */
export function flipped(bytes: Uint8Array, offset: number): Buffer {
  const copy = Buffer.from(bytes)
  copy.writeUInt8(copy.readUInt8(offset) ^ 1, offset)
  return copy
}

/** Matches what gets the bytes of a file: from the Hub's own host, or from the one of the large files. */
export function hubReads({ files }: HubRepo, name: string): (request: HubRequest) => boolean {
  const file = files.find((other) => other.path === name)
  if (!file) throw new Error(`the model has no ${name}`)
  const large = file.lfs ?? (file.body as Uint8Array).length >= 1 << 20
  return ({ method, server, path: route, query }) => {
    if (method !== 'GET' || (server === 'cdn') !== large) return false
    if (!large) return route.includes('/resolve/') && route.endsWith(`/${name}`)
    return query.get('response-content-disposition')?.includes(`"${path.basename(name)}"`) ?? false
  }
}

/** Matches what reads the bytes of an object. */
export function spacesReads(name: string): (request: SpacesRequest) => boolean {
  return ({ operation, key }) => operation === 'GetObject' && key.endsWith(`/${name}`)
}
