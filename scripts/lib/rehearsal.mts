import { randomBytes } from 'node:crypto'
import { Document, isScalar, visit } from 'yaml'
import { formatCount } from './format.mts'
import { Kubectl, KubectlError, type Patch } from './kubectl.mts'
import type { Metadata, PersistentVolume, PersistentVolumeClaim } from './objects.mts'
import type { Result, Session } from './session.mts'

interface Item {
  metadata: Metadata
}

interface Manifest {
  kind: string
  metadata: { name: string }
}

const TITLE = 'dry run'
const KINDS: Record<string, string> = { Job: 'job', ConfigMap: 'configmap', PersistentVolumeClaim: 'pvc' }

/** The same run with a cluster that only pretends to change; gives what it would have made, as YAML. */
export async function rehearse(
  session: Omit<Session, 'cluster'>,
  run: (session: Session) => Promise<Result>,
): Promise<Result> {
  const { story, outcome } = session
  story.begun(TITLE, 'nothing is changed; what follows is what a run would do')
  outcome.good = 'dry-run'
  const cluster = new Rehearsal(session)
  const result = await run({ ...session, cluster })
  const made = `${formatCount(cluster.made, 'object')} would be created`
  if (cluster.alone) story.warned(TITLE, `up to ${made}, unchecked: the cluster does not answer`)
  else story.would(TITLE, `${made}${cluster.made > 0 ? ', and the server would take them' : ''}; nothing was changed`)
  outcome.facts.checked = !cluster.alone
  outcome.facts.manifests = cluster.text
  return { ...result, text: cluster.text }
}

/** A door to kubectl that reads as the real one, keeps its changes to itself and has the server try each of them. */
class Rehearsal extends Kubectl {
  made = 0
  /** The server does not answer. */
  alone = false
  readonly #settings: Session['settings']
  readonly #story: Session['story']
  readonly #steps: string[] = []
  /** What is different from what the server would say; undefined: it is gone. */
  readonly #pretended = new Map<string, Item | undefined>()

  constructor({ settings, story, signal }: Pick<Session, 'settings' | 'story' | 'signal'>) {
    super(settings.context, settings.namespace, signal)
    this.#settings = settings
    this.#story = story
  }

  /** Manifests in the order in which they would be made; deletions and patches between them as comments. */
  get text(): string {
    return this.#steps.join('\n')
  }

  override afterInterruption(): Kubectl {
    return this
  }

  override async find<T extends Item>(kind: string, name: string): Promise<T | undefined> {
    const key = `${kind}/${name}`
    if (this.#pretended.has(key)) return this.#pretended.get(key) as T | undefined
    const found = await this.#ask(() => super.find<T>(kind, name))
    if (this.alone) return kind === 'pv' ? (assumedVolume(name) as unknown as T) : undefined
    if (kind === 'job' && found?.metadata.deletionTimestamp) {
      this.#story.detail(`Job ${name} is being deleted; its end would be waited for`)
      this.#pretended.set(key, undefined)
      return undefined
    }
    return found
  }

  override async create<T extends Item>(manifest: object): Promise<T> {
    const { kind, metadata } = manifest as Manifest
    // Under its own name there may still be the object that it is going to replace.
    const free = { ...manifest, metadata: { ...metadata, name: `dry-run-${randomBytes(4).toString('hex')}` } }
    const stored = await this.#ask(() => this.tryOut<Item>(free))
    const pretended = {
      ...manifest,
      status: {},
      metadata: { uid: 'dry-run', ...stored?.metadata, ...metadata },
    } as unknown as T
    this.made += 1
    this.#steps.push(`---\n${yamlOf(manifest)}`.trimEnd())
    this.#pretended.set(`${KINDS[kind] ?? kind}/${metadata.name}`, pretended)
    if (kind === 'PersistentVolumeClaim') await this.#bind()
    return pretended
  }

  override async patch(kind: string, name: string, operations: readonly Patch[]): Promise<void> {
    const step = `# ${this.command('patch', kind, name, '--type=json', `--patch=${JSON.stringify(operations)}`)}`
    if (kind !== 'pv') {
      this.#steps.push(step)
      return
    }
    const found = await this.find<PersistentVolume>(kind, name)
    if (!found) return
    await this.tryPatch(kind, name, operations)
    this.#steps.push(step)
    const { claimRef: _, ...spec } = found.spec
    this.#pretended.set(`${kind}/${name}`, { ...found, spec, status: { phase: 'Available' } } as Item)
    await this.#bind()
  }

  override async list<T extends Item>(kinds: string, selector: string): Promise<T[]> {
    return (await this.#ask(() => super.list<T>(kinds, selector))) ?? []
  }

  override async deleteJob(job: Metadata): Promise<boolean> {
    const pretended = this.#pretended.get(`job/${job.name}`)
    this.#pretended.set(`job/${job.name}`, undefined)
    if (!pretended) this.#steps.push(`# ${this.command('delete', 'job', job.name, '--cascade=foreground')}`)
    return true
  }

  override async deleteObject(kind: 'pods' | 'configmaps', { name }: Metadata): Promise<boolean> {
    this.#steps.push(`# ${this.command('delete', kind, name)}`)
    return true
  }

  /** What the controller would do: the claim that names the volume gets it. */
  async #bind(): Promise<void> {
    const { pv, pvc, namespace } = this.#settings
    const claim = await this.find<PersistentVolumeClaim>('pvc', pvc)
    const volume = await this.find<PersistentVolume>('pv', pv)
    if (!claim || !volume || claim.spec.volumeName !== pv) return
    const claimRef = { namespace, name: pvc, uid: claim.metadata.uid }
    const status = { phase: 'Bound' }
    this.#pretended.set(`pvc/${pvc}`, { ...claim, status } as Item)
    this.#pretended.set(`pv/${pv}`, { ...volume, spec: { ...volume.spec, claimRef }, status } as Item)
  }

  /** Undefined once the server has not answered: manifests can be rendered without it. */
  async #ask<T>(ask: () => Promise<T>): Promise<T | undefined> {
    if (this.alone) return undefined
    try {
      return await ask()
    } catch (error) {
      if (!(error instanceof KubectlError && error.reason === 'unreachable')) throw error
      this.alone = true
      return undefined
    }
  }
}

/** As the README makes it: the one thing that no script makes itself. */
function assumedVolume(name: string): PersistentVolume {
  return {
    metadata: { name, uid: 'dry-run', resourceVersion: '0', creationTimestamp: '' },
    spec: { accessModes: ['ReadWriteMany'], storageClassName: 'nfs-static' },
    status: { phase: 'Available' },
  }
}

/** YAML in which no reader, of whatever version, takes a string for something else: a model may be called `1e5` or `no`. */
function yamlOf(manifest: object): string {
  const document = new Document(manifest, { aliasDuplicateObjects: false })
  visit(document, {
    Scalar: (key, node) => {
      if (key !== 'key' && isScalar(node) && typeof node.value === 'string' && !node.value.includes('\n'))
        node.type = 'QUOTE_DOUBLE'
    },
  })
  return document.toString({ lineWidth: 0 })
}
