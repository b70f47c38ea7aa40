import { beforeEach, describe, expect, test } from 'vitest'
import { runErrand } from '../../scripts/lib/errand.mts'
import { startJob } from '../../scripts/lib/job.mts'
import { Kubectl, KubectlError, type KubectlReason, type Patch } from '../../scripts/lib/kubectl.mts'
import { annotation } from '../../scripts/lib/labels.mts'
import { type JobManifest, renderJob, renderMover } from '../../scripts/lib/manifest.mts'
import type { Job, Metadata } from '../../scripts/lib/objects.mts'
import { type OptionName, options } from '../../scripts/lib/options.mts'
import { Outcome } from '../../scripts/lib/outcome.mts'
import type { Session } from '../../scripts/lib/session.mts'
import { readSettings } from '../../scripts/lib/settings.mts'
import { Story } from '../../scripts/lib/story.mts'

type Stored = { kind: string; metadata: Metadata; spec?: Job['spec']; status?: Job['status'] }

/** A cluster that keeps what it is given, and lets a test step in between two calls. */
class FakeCluster extends Kubectl {
  readonly stored = new Map<string, Stored>()
  readonly deleted: string[] = []
  beforeCreate: (manifest: Stored) => void = () => {}
  afterCreate: (stored: Stored) => void = () => {}
  /** As of Jobs that end at once. */
  ended = false
  #uids = 0

  put(manifest: object): Stored {
    const object = structuredClone(manifest) as Stored
    object.metadata.uid = `uid-${++this.#uids}`
    object.status = this.ended ? { conditions: [{ type: 'Complete', status: 'True' }] } : {}
    this.stored.set(`${object.kind}/${object.metadata.name}`.toLowerCase(), object)
    return object
  }
  override afterInterruption(): Kubectl {
    return this
  }
  override async find<T>(kind: string, name: string): Promise<T | undefined> {
    return structuredClone(this.stored.get(`${kind}/${name}`)) as T | undefined
  }
  override async list<T>(kinds: string): Promise<T[]> {
    return [...this.stored.values()].filter(({ kind }) => kinds.includes(kind.toLowerCase())) as T[]
  }
  override async events(): Promise<[]> {
    return []
  }
  override async create<T>(manifest: object): Promise<T> {
    const { kind, metadata } = manifest as Stored
    if (kind === 'Job') this.beforeCreate(manifest as Stored)
    if (this.stored.has(`${kind}/${metadata.name}`.toLowerCase())) throw failure('exists')
    const stored = this.put(manifest)
    if (kind === 'Job') this.afterCreate(stored)
    return structuredClone(stored) as T
  }
  override async patch(kind: string, name: string, [, operation]: readonly Patch[]): Promise<void> {
    const job = this.stored.get(`${kind}/${name}`)
    if (job && operation?.path.endsWith('joined'))
      job.metadata.annotations = { ...job.metadata.annotations, [annotation.joined]: 'true' }
  }
  override async deleteJob({ name, uid }: Metadata): Promise<boolean> {
    if (this.stored.get(`job/${name}`)?.metadata.uid !== uid) return false
    this.deleted.push(uid)
    return this.stored.delete(`job/${name}`)
  }
}

function failure(reason: KubectlReason): KubectlError {
  return new KubectlError(reason, 'the server says no', 'do something')
}

let cluster: FakeCluster
let said: string
beforeEach(() => {
  cluster = new FakeCluster('demo', 'ns')
  said = ''
})

function sessionOf(...args: string[]): Session {
  const settings = readSettings('test', Object.keys(options) as OptionName[], ['--model', 'a/b', ...args], {})
  const story = new Story((text) => {
    said += text
  })
  return {
    settings,
    cluster,
    story,
    outcome: new Outcome(),
    kubeconfig: undefined,
    again: 'again',
    target: undefined,
    signal: new AbortController().signal,
  }
}

async function wanted(...args: string[]): Promise<JobManifest> {
  return renderJob('model-upload-spaces', sessionOf(...args).settings, (await renderMover('ns')).metadata.name)
}

async function start(...args: string[]) {
  return startJob(sessionOf(...args), 'to Spaces', await wanted(...args), await renderMover('ns'))
}

describe('a Job is', () => {
  test('joined by whoever was second with the same', async () => {
    const manifest = await wanted()
    cluster.beforeCreate = () => cluster.put(manifest)
    expect(await start()).toMatchObject({ job: { uid: 'uid-2' }, joined: true })
  })

  test('ours when it was created, whatever the server has made of it', async () => {
    cluster.afterCreate = ({ spec }) => {
      for (const container of spec?.template.spec.containers ?? []) container.image = 'mirror.example/python'
    }
    expect(await start()).toMatchObject({ job: { uid: 'uid-2' }, joined: false })
    expect(await start(), 'compared by what was asked for').toMatchObject({ job: { uid: 'uid-2' }, joined: true })
    await expect(start('--buffer', '1Gi')).rejects.toThrow('other settings: BUFFER is 256Mi there, 1Gi here')
  })

  test('started once by a server that did it and did not say so', async () => {
    let silent = true
    cluster.afterCreate = () => {
      if (silent) throw failure('unreachable')
      silent = false
    }
    expect(await start()).toMatchObject({ job: { uid: 'uid-2' } })
    expect(cluster.deleted).toEqual([])
  })

  test('not without its ConfigMap when clean has taken that for nobody’s', async () => {
    const { metadata } = await renderMover('ns')
    cluster.afterCreate = () => cluster.stored.delete(`configmap/${metadata.name}`)
    await start()
    expect(cluster.stored.has(`configmap/${metadata.name}`)).toBe(true)
  })
})

describe('--restart', () => {
  test('stops the Job that was there', async () => {
    cluster.put(await wanted())
    expect(await start('--restart')).toMatchObject({ joined: false })
    expect(cluster.deleted).toEqual(['uid-1'])
  })

  test('does not stop one that somebody else has started since', async () => {
    const manifest = await wanted()
    cluster.beforeCreate = () => cluster.put(manifest)
    expect(await start('--restart')).toMatchObject({ joined: true })
    expect(cluster.deleted).toEqual([])
  })
})

describe('the Job of an errand', () => {
  const errand = (level: string) =>
    runErrand(sessionOf('--level', level), { title: 'verify', kind: 'model-verify-nfs', doing: 'reads' })
  const others = async (level: string) => renderJob('model-verify-nfs', sessionOf('--level', level).settings, 'mover')

  test('is deleted by the run that made it', async () => {
    cluster.ended = true
    await errand('sizes')
    expect(cluster.deleted).toEqual(['uid-2'])
  })

  test('stays when it is somebody else’s and has other settings', async () => {
    const manifest = await others('hashes')
    cluster.beforeCreate = () => cluster.put(manifest)
    await expect(errand('sizes')).rejects.toThrow('LEVEL is hashes there, sizes here')
    expect(cluster.deleted).toEqual([])
  })

  test('stays when it was joined, and is marked for whoever made it', async () => {
    const manifest = await others('sizes')
    cluster.beforeCreate = () => {
      const job = cluster.put(manifest)
      setTimeout(() => Object.assign(job, { status: { conditions: [{ type: 'Complete', status: 'True' }] } }), 400)
    }
    await errand('sizes')
    expect(said).toContain('is running already: joined')
    expect(cluster.deleted).toEqual([])
    expect([...cluster.stored.values()].at(-1)?.metadata.annotations).toMatchObject({ [annotation.joined]: 'true' })
  })

  test('stays when another run has joined it', async () => {
    cluster.ended = true
    cluster.afterCreate = ({ metadata }) => {
      metadata.annotations = { ...metadata.annotations, [annotation.joined]: 'true' }
    }
    await errand('sizes')
    expect(cluster.deleted).toEqual([])
  })
})
