import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { Bucket } from './bucket.mts'
import { type Cluster, openCluster, python } from './cluster.mts'
import { type Outcome, Running } from './command.mts'
import { type Hub, type HubRepo, startHub } from './hub.mts'
import { kinds as standInKinds } from './kube/kinds.mts'
import type { Kube } from './kube.mts'
import { startMoto } from './moto.mts'
import { createBucket, type S3 } from './s3.mts'
import { type Spaces, startSpaces } from './spaces.mts'

export interface WorldOptions {
  models?: HubRepo[]
  /** Tokens the Hub knows, with the gated and private models each may read. */
  tokens?: Record<string, string[]>
  /** What the Secret hf-token holds. Default: there is no such Secret. */
  hfToken?: string
  /** The S3 server: one that answers as Spaces does (default), or moto. */
  s3?: 'spaces' | 'moto'
  /** Whether the volume is there from the start (default), as a PersistentVolume that nobody has claimed. */
  volume?: boolean
  /** Names that users see; unique ones by default, so that worlds can share a cluster. The context is the embedded one's. */
  context?: string
  namespace?: string
  pv?: string
  pvc?: string
  bucket?: string
  /** The delay before a failed pod's first retry, of the embedded Kubernetes; 10 by default, as in every other. */
  backoffSeconds?: number
}

export interface RunOptions {
  env?: Record<string, string>
  cwd?: string
  input?: string
}

/** As much of an object as tests look at. */
export interface KubeObject {
  metadata: {
    name: string
    uid: string
    resourceVersion: string
    annotations?: Record<string, string>
    deletionTimestamp?: string
  }
  spec: Record<string, unknown>
  status: { phase?: string; conditions?: Condition[] }
}

export interface Condition {
  type: string
  status: string
  reason?: string
  lastTransitionTime?: string
}

/** One object at one moment: another text as soon as anything of it has changed. */
export function versionOf({ metadata: { name, uid, resourceVersion } }: KubeObject): string {
  return `${name} ${uid} ${resourceVersion}`
}

interface Parts {
  cluster: Cluster
  hub: Hub
  s3: S3
  bucket: Bucket
  /** A folder for what a test needs, removed with the world. */
  dir: string
  /** The folder that is the volume, on this machine in either backend. */
  volume: string
  namespace: string
  pv: string
  pvc: string
}

const root = path.resolve(import.meta.dirname, '../..')
/** On all that is not in a world's namespace: what a killed test run left in a shared cluster can be found by it. */
const LABEL = 'model-storage-pipeline/world'

/** Makes a world on the embedded stand-ins, or on the real cluster under E2E=1. */
export async function createWorld(options: WorldOptions = {}): Promise<World> {
  const unique = `msp-${randomBytes(4).toString('hex')}`
  const cleanup: (() => Promise<unknown>)[] = []
  const close = async () => {
    const problems: unknown[] = []
    for (const step of cleanup.splice(0).reverse()) await step().catch((error) => problems.push(error))
    if (problems.length > 0) throw new AggregateError(problems, problems.map(String).join('\n'))
  }
  try {
    const dir = await mkdtemp(path.join(os.tmpdir(), `${unique}-`))
    cleanup.push(() => rm(dir, { recursive: true, force: true }))
    await chmod(dir, 0o755)
    const volume = path.join(dir, 'volume')
    await Promise.all([mkdir(volume), mkdir(path.join(dir, 'home'))])

    const cluster = await openCluster(dir, options)
    cleanup.push(() => cluster.close())
    const { host } = cluster
    const hub = await startHub({ host, repos: options.models ?? [], tokens: options.tokens ?? {} })
    cleanup.push(() => hub.close())
    const s3 = options.s3 === 'moto' ? await startMoto({ host, python }) : await startSpaces({ host })
    cleanup.push(() => s3.close())
    const bucket = new Bucket(s3, options.bucket ?? unique)
    await createBucket(s3, bucket.name)

    const { namespace = unique, pv = `${unique}-pv`, pvc = 'models' } = options
    const world = new World({ cluster, hub, s3, bucket, dir, volume, namespace, pv, pvc }, close)
    await world.kubectl(['create', '-f', '-'], {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: namespace, labels: { [LABEL]: namespace } },
    })
    // The namespace takes its pods and claims with it, and after that the volumes can be let go.
    cleanup.push(() => world.kubectl(['delete', 'pv', '--selector', `${LABEL}=${namespace}`]))
    cleanup.push(() => world.kubectl(['delete', 'namespace', namespace]))
    const keys = { AWS_ACCESS_KEY_ID: s3.accessKey, AWS_SECRET_ACCESS_KEY: s3.secretKey }
    await world.kubectl(['create', '-f', '-'], secret('spaces-credentials', keys))
    if (options.hfToken) await world.kubectl(['create', '-f', '-'], secret('hf-token', { HF_TOKEN: options.hfToken }))
    if (options.volume ?? true) await world.addVolume(pv, { hostPath: { path: volume, type: 'Directory' } })
    return world
  } catch (error) {
    await close().catch((problem) => console.error(problem))
    throw error
  }
}

/** The world of `make demo` and `make picture`, with the names that the scripts take where none are given. */
export function demoWorld(model: HubRepo): Promise<World> {
  return createWorld({
    models: [model],
    hfToken: 'hf_demo',
    tokens: { hf_demo: [] },
    context: 'do-nyc2-gtc-demo',
    namespace: 'dynamo-workload',
    pv: 'model-nfs-pv',
    pvc: 'model-nfs-pvc',
    bucket: 'do-gtc2026-doks-demo',
  })
}

/** Everything a model passes through: a Hub, an S3 server with a bucket, a Kubernetes with Secrets, and a volume. */
export class World {
  readonly hub: Hub
  readonly s3: S3
  readonly bucket: Bucket
  readonly dir: string
  readonly volume: string
  readonly context: string
  readonly namespace: string
  readonly pv: string
  readonly pvc: string
  /** The environment of the commands: nothing of the developer's own but PATH. */
  readonly env: Record<string, string>
  /** Removes all of it, from a shared cluster too. */
  readonly close: () => Promise<void>
  readonly #kube: Kube | undefined

  constructor({ cluster, hub, s3, bucket, dir, volume, namespace, pv, pvc }: Parts, close: () => Promise<void>) {
    this.hub = hub
    this.s3 = s3
    this.bucket = bucket
    this.dir = dir
    this.volume = volume
    this.#kube = cluster.kube
    this.context = cluster.context
    this.namespace = namespace
    this.pv = pv
    this.pvc = pvc
    this.close = close
    this.env = {
      PATH: process.env.PATH ?? '',
      HOME: path.join(dir, 'home'),
      KUBECONFIG: cluster.kubeconfig,
      // kubectl runs for a tenth of a second, thousands of times: collecting garbage meanwhile, and threads that it
      // hardly uses, take a quarter of that.
      GOGC: 'off',
      GOMAXPROCS: '1',
      KUBE_CONTEXT: cluster.context,
      NAMESPACE: namespace,
      MODEL_PV: pv,
      MODEL_PVC: pvc,
      SPACES_ENDPOINT: s3.url,
      SPACES_BUCKET: bucket.name,
      SPACES_REGION: 'atl1',
      HF_ENDPOINT: hub.url,
    }
  }

  /** The embedded Kubernetes, to make it misbehave; there is none under E2E=1. */
  get kube(): Kube {
    if (this.#kube) return this.#kube
    throw new Error('this world is on a real cluster')
  }

  /** The S3 server where it is the one that answers as Spaces does, with its log and its faults. */
  get spaces(): Spaces {
    if ('faults' in this.s3) return this.s3 as Spaces
    throw new Error('this world has moto as its S3 server')
  }

  /** Bytes of model files that the Hub has sent, and that the bucket has taken in and handed out, up to now. */
  get moved(): { fromHub: number; intoBucket: number; outOfBucket: number } {
    const total = (sizes: number[]) => sizes.reduce((sum, size) => sum + size, 0)
    const files = this.hub.requests.filter(({ server, path }) => server === 'cdn' || path.includes('/resolve/'))
    const objects = this.spaces.requests.filter(({ key }) => key && !path.basename(key).startsWith('.upload-'))
    return {
      fromHub: total(files.map(({ sent }) => sent)),
      intoBucket: total(objects.map(({ received }) => received)),
      outOfBucket: total(objects.filter(({ operation }) => operation === 'GetObject').map(({ sent }) => sent)),
    }
  }

  /** Starts a script by its name (`verify`), or any other command, in the repository's folder. */
  start(command: string, args: readonly string[] = [], options: RunOptions = {}): Running {
    const script = path.join(root, 'scripts', `${command}.mts`)
    return new Running(existsSync(script) ? script : command, args, {
      cwd: root,
      ...options,
      env: { ...this.env, ...options.env },
    })
  }

  /** The same, up to its end. */
  run(command: string, args: readonly string[] = [], options: RunOptions = {}): Promise<Outcome> {
    return this.start(command, args, options).outcome
  }

  /** kubectl in the world's context and namespace; gives its stdout and throws when it fails. */
  async kubectl(args: readonly string[], input?: unknown): Promise<string> {
    const all = ['--context', this.context, '--namespace', this.namespace, ...args]
    const done = await this.run('kubectl', all, input === undefined ? {} : { input: JSON.stringify(input) })
    if (done.code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${done.stderr}`)
    return done.stdout
  }

  /** An object as it is; undefined when it is not there. */
  async object<T = KubeObject>(kind: string, name: string): Promise<T | undefined> {
    if (this.#kube) return this.#read<T>(this.#kube, kind, name)
    const found = await this.kubectl(['get', kind, name, '--ignore-not-found', '-o', 'json'])
    return found ? (JSON.parse(found) as T) : undefined
  }

  /** All objects of the kinds (`jobs,pods`), or those that a selector picks. */
  async list<T = KubeObject>(kinds: string, { labels = '', fields = '' } = {}): Promise<T[]> {
    const kube = this.#kube
    if (kube) {
      const query = { labelSelector: labels, fieldSelector: fields }
      const lists = kinds.split(',').map((kind) => this.#read<{ items: T[] }>(kube, kind, '', query))
      return (await Promise.all(lists)).flatMap((list) => list?.items ?? [])
    }
    const flags = [`--selector=${labels}`, `--field-selector=${fields}`]
    return (JSON.parse(await this.kubectl(['get', kinds, ...flags, '-o', 'json'])) as { items: T[] }).items
  }

  /** Straight from the stand-in's API: what tests only look at, again and again, needs no kubectl. */
  async #read<T>(kube: Kube, word: string, name: string, query: Record<string, string> = {}): Promise<T | undefined> {
    const kind = standInKinds.find(({ singular, plural, shortNames }) =>
      [singular, plural, ...shortNames].includes(word),
    )
    if (!kind) throw new Error(`the stand-in has no ${word}`)
    const root = kind.group ? `/apis/${kind.group}/v1` : '/api/v1'
    const place = kind.namespaced ? `/namespaces/${this.namespace}` : ''
    const route = `${root}${place}/${kind.plural}${name && `/${name}`}`
    const response = await fetch(`${kube.url}${route}?${new URLSearchParams(query)}`)
    if (response.status === 404) return undefined
    if (!response.ok) throw new Error(`GET ${route}: ${response.status} ${await response.text()}`)
    return (await response.json()) as T
  }

  /** Puts a Secret of these values in the place of the one that is there; without values only removes that. */
  async putSecret(name: string, stringData?: Record<string, string>): Promise<void> {
    await this.kubectl(['delete', 'secret', name, '--ignore-not-found'])
    if (stringData) await this.kubectl(['create', '-f', '-'], secret(name, stringData))
  }

  /** A PersistentVolume on a folder of this machine, removed with the world. */
  async addVolume(name: string, spec: Record<string, unknown> = {}): Promise<void> {
    await this.kubectl(['create', '-f', '-'], {
      apiVersion: 'v1',
      kind: 'PersistentVolume',
      metadata: { name, labels: { [LABEL]: this.namespace } },
      spec: {
        capacity: { storage: '100Gi' },
        accessModes: ['ReadWriteMany'],
        persistentVolumeReclaimPolicy: 'Retain',
        storageClassName: 'nfs-static',
        hostPath: { path: path.join(this.dir, name), type: 'DirectoryOrCreate' },
        ...spec,
      },
    })
  }
}

function secret(name: string, stringData: Record<string, string>): unknown {
  return { apiVersion: 'v1', kind: 'Secret', metadata: { name }, stringData }
}
