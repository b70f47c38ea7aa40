import { randomBytes } from 'node:crypto'
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { Bucket } from './bucket.mts'
import { type Cluster, openCluster, python } from './cluster.mts'
import { type Outcome, Running } from './command.mts'
import { type Hub, type HubRepo, startHub } from './hub.mts'
import { type S3, startMoto } from './moto.mts'

export interface WorldOptions {
  models?: HubRepo[]
  /** Tokens the Hub knows, with the gated and private models each may read. */
  tokens?: Record<string, string[]>
  /** What the Secret hf-token holds. Default: there is no such Secret. */
  hfToken?: string
  /** Whether the volume is there from the start (default), as a PersistentVolume that nobody has claimed. */
  volume?: boolean
  /** Names that users see; unique ones by default, so that worlds can share a cluster. The context is the embedded one's. */
  context?: string
  namespace?: string
  pv?: string
  pvc?: string
  bucket?: string
}

export interface RunOptions {
  env?: Record<string, string>
  cwd?: string
  input?: string
}

/** As much of an object as tests look at. */
export interface KubeObject {
  metadata: { name: string; uid: string; resourceVersion: string; annotations?: Record<string, string> }
  spec: Record<string, unknown>
  status: { phase?: string; conditions?: { type: string; status: string; reason?: string }[] }
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
const SCRIPTS = ['fix-pvc', 'model-to-spaces', 'model-to-nfs', 'setup-model', 'verify']
const LABEL = 'model-storage-pipeline/world'

/** Makes a world on the embedded stand-ins, or on the real cluster under E2E=1. */
export async function createWorld(options: WorldOptions = {}): Promise<World> {
  const unique = `msp-${randomBytes(4).toString('hex')}`
  const cleanup: (() => Promise<unknown>)[] = []
  const close = async () => {
    for (const step of cleanup.splice(0).reverse()) await step()
  }
  try {
    const dir = await mkdtemp(path.join(os.tmpdir(), `${unique}-`))
    cleanup.push(() => rm(dir, { recursive: true, force: true }))
    await chmod(dir, 0o755)
    const volume = path.join(dir, 'volume')
    await Promise.all([mkdir(volume), mkdir(path.join(dir, 'home'))])

    const cluster = await openCluster(dir, options.context ?? 'stand-in')
    cleanup.push(() => cluster.close())
    const { host } = cluster
    const hub = await startHub({ host, repos: options.models ?? [], tokens: options.tokens ?? {} })
    cleanup.push(() => hub.close())
    const s3 = await startMoto({ host, python })
    cleanup.push(() => s3.close())
    const bucket = new Bucket(s3, options.bucket ?? unique)
    await bucket.create()

    const { namespace = unique, pv = `${unique}-pv`, pvc = 'models' } = options
    const world = new World({ cluster, hub, s3, bucket, dir, volume, namespace, pv, pvc }, close)
    await world.kubectl(['create', 'namespace', namespace])
    // The namespace takes its pods and claims with it, and after that the volumes can be let go.
    cleanup.push(() => world.kubectl(['delete', 'pv', '--selector', `${LABEL}=${namespace}`]))
    cleanup.push(() => world.kubectl(['delete', 'namespace', namespace]))
    await world.kubectl(['create', '-f', '-'], { apiVersion: 'v1', kind: 'List', items: secrets(s3, options.hfToken) })
    if (options.volume ?? true) await world.addVolume(pv, { hostPath: { path: volume, type: 'Directory' } })
    return world
  } catch (error) {
    await close()
    throw error
  }
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

  constructor({ cluster, hub, s3, bucket, dir, volume, namespace, pv, pvc }: Parts, close: () => Promise<void>) {
    this.hub = hub
    this.s3 = s3
    this.bucket = bucket
    this.dir = dir
    this.volume = volume
    this.context = cluster.context
    this.namespace = namespace
    this.pv = pv
    this.pvc = pvc
    this.close = close
    this.env = {
      PATH: process.env.PATH ?? '',
      HOME: path.join(dir, 'home'),
      KUBECONFIG: cluster.kubeconfig,
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

  /** Starts a script by its name (`verify`), or any other command, in the repository's folder. */
  start(command: string, args: readonly string[] = [], options: RunOptions = {}): Running {
    const program = SCRIPTS.includes(command) ? path.join(root, 'scripts', `${command}.mts`) : command
    return new Running(program, args, { cwd: root, ...options, env: { ...this.env, ...options.env } })
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

  /** `kubectl get … -o json`; undefined when the object is not there. */
  async object<T = KubeObject>(kind: string, name: string): Promise<T | undefined> {
    const found = await this.kubectl(['get', kind, name, '--ignore-not-found', '-o', 'json'])
    return found ? (JSON.parse(found) as T) : undefined
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

function secrets(s3: S3, hfToken: string | undefined): unknown[] {
  const secret = (name: string, stringData: Record<string, string>) => ({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name },
    stringData,
  })
  return [
    secret('spaces-credentials', { AWS_ACCESS_KEY_ID: s3.accessKey, AWS_SECRET_ACCESS_KEY: s3.secretKey }),
    ...(hfToken === undefined ? [] : [secret('hf-token', { HF_TOKEN: hfToken })]),
  ]
}
