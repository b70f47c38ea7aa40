import { Failure } from './failure.mts'
import { type Kubectl, KubectlError } from './kubectl.mts'
import { type ClaimManifest, renderClaim } from './manifest.mts'
import type { PersistentVolume, PersistentVolumeClaim } from './objects.mts'
import { Pace } from './pace.mts'
import { askPatiently, unlessAway } from './patience.mts'
import type { Session } from './session.mts'
import type { Settings } from './settings.mts'

/** Binding takes the controllers a second or two: no grace is shorter than this, and what takes half of it is said. */
const BINDING_SECONDS = 10

/** The claim and its volume as the API shows them; `volume` is 'hidden' where PVs may not be read. */
export interface Storage {
  claim: PersistentVolumeClaim | undefined
  volume: PersistentVolume | 'hidden' | undefined
}

export type StorageDecision =
  | { action: 'nothing'; sentence: string }
  | { action: 'release'; resourceVersion: string }
  | { action: 'create' }
  /** The controllers are at it. */
  | { action: 'wait' }
  | { action: 'refuse'; fact: string; next: string }

/** Looks at both; a volume that may not be read is 'hidden', every other failure is thrown. */
export async function readStorage(cluster: Kubectl, { pv, pvc }: Settings): Promise<Storage> {
  const [claim, volume] = await Promise.all([
    cluster.find<PersistentVolumeClaim>('pvc', pvc),
    cluster.find<PersistentVolume>('pv', pv).catch((error: unknown) => {
      if (error instanceof KubectlError && error.reason === 'forbidden') return 'hidden' as const
      throw error
    }),
  ])
  return { claim, volume }
}

/** The claim that is wanted; it asks for no more than the volume has, for it would never bind. */
export function wantedClaim({ volume }: Storage, settings: Settings): Promise<ClaimManifest> {
  return renderClaim(settings, volume === 'hidden' ? undefined : volume?.spec.capacity?.storage)
}

/** Pure: what brings the claim and its volume together, or why nothing may be touched. */
export function decideStorage(storage: Storage, wanted: ClaimManifest): StorageDecision {
  return (
    brokenClaim(storage, wanted) ??
    brokenVolume(storage, wanted) ??
    bound(storage, wanted) ??
    neverBinds(storage, wanted) ??
    nextStep(storage)
  )
}

/** Brings the claim to Bound on its volume; gives what was done, or why it was done already, in a sentence. */
export async function bindStorage(session: Session): Promise<string> {
  const { settings, cluster } = session
  const binding = new Binding(session)
  const done: string[] = []
  for (;;) {
    // Of a look that the cluster's silence has held up, the controllers have not had their time yet.
    const late = binding.pace.over
    const storage = await askPatiently(session, () => readStorage(cluster, settings))
    const wanted = await wantedClaim(storage, settings)
    const decision = decideStorage(storage, wanted)
    switch (decision.action) {
      case 'refuse':
        throw new Failure('storage', decision.fact, decision.next)
      case 'nothing':
        if (done.length === 0) return `${decision.sentence} (was already)`
        if (settings.dryRun) return `${done.join('; ')}; ${settings.pvc} would then be Bound to ${settings.pv}`
        return `${decision.sentence} (${done.join('; ')})`
      case 'release':
        if (!(await unlessAway(session, binding.pace, () => release(cluster, settings.pv, decision.resourceVersion))))
          break
        done.push(`${settings.pv} was Released: its stale claimRef ${settings.dryRun ? 'would be' : 'is'} removed`)
        binding.begin()
        break
      case 'create':
        if (!(await unlessAway(session, binding.pace, () => create(cluster, wanted)))) break
        done.push(settings.dryRun ? 'the PVC would be created' : 'PVC created')
        binding.begin()
        break
      case 'wait':
        await binding.tell(storage.claim)
    }
    if (late && binding.pace.over) throw await binding.overdue(storage.claim)
    await binding.pace.wait()
  }
}

/** The time that the controllers have to bind a claim to its volume. */
class Binding {
  readonly #session: Session
  readonly #seconds: number
  #began = 0
  #isTold = false
  pace: Pace

  constructor(session: Session) {
    this.#session = session
    this.#seconds = Math.max(session.settings.grace, BINDING_SECONDS)
    this.pace = this.begin()
  }

  /** Behind each change of ours it begins anew. */
  begin(): Pace {
    this.#began = performance.now()
    this.pace = new Pace(this.#seconds, this.#session.signal, this.#session.story)
    return this.pace
  }

  /** Says once what the claim waits for, when it is clear that it has to wait. */
  async tell(claim: PersistentVolumeClaim | undefined): Promise<void> {
    if (this.#isTold || performance.now() - this.#began < (BINDING_SECONDS * 1000) / 2) return
    this.#isTold = true
    this.#session.story.begun('storage', `${await this.#fact(claim)}; waiting for up to ${this.#seconds} s`)
  }

  async overdue(claim: PersistentVolumeClaim | undefined): Promise<Failure> {
    const { cluster, settings } = this.#session
    const both = cluster.command('describe', `pv/${settings.pv}`, `pvc/${settings.pvc}`)
    return new Failure('storage', await this.#fact(claim), `compare them: ${both}`)
  }

  async #fact(claim: PersistentVolumeClaim | undefined): Promise<string> {
    const { pv, pvc } = this.#session.settings
    const why = claim ? await this.#lastEvent(claim) : 'it has no event'
    return `PVC ${pvc} is ${claim?.status?.phase ?? 'not there'} and not Bound to ${pv}; ${why}`
  }

  async #lastEvent({ metadata }: PersistentVolumeClaim): Promise<string> {
    try {
      const last = (await askPatiently(this.#session, () => this.#session.cluster.events(metadata.uid))).at(-1)
      return last ? `its last event: ${last.reason}: ${last.message}` : 'it has no event'
    } catch (error) {
      if (error instanceof KubectlError && error.reason === 'forbidden') return 'looking at its events is not permitted'
      throw error
    }
  }
}

/** False when somebody else has made it since it was looked for: then it is looked at again. */
async function create(cluster: Kubectl, claim: ClaimManifest): Promise<boolean> {
  try {
    await cluster.create(claim)
    return true
  } catch (error) {
    if (error instanceof KubectlError && error.reason === 'exists') return false
    throw error
  }
}

/** False when the volume changed since it was looked at: then it is looked at again. */
async function release(cluster: Kubectl, pv: string, resourceVersion: string): Promise<boolean> {
  try {
    await cluster.patch('pv', pv, [
      { op: 'test', path: '/metadata/resourceVersion', value: resourceVersion },
      { op: 'remove', path: '/spec/claimRef' },
    ])
    return true
  } catch (error) {
    if (!(error instanceof KubectlError && (error.reason === 'invalid' || error.reason === 'conflict'))) throw error
    const now = await cluster.find<PersistentVolume>('pv', pv)
    // A policy's refusal has the same reason as the failed `test`; of a volume that has not changed it is the last word.
    if (now?.metadata.resourceVersion === resourceVersion) throw error
    return false
  }
}

function brokenClaim({ claim }: Storage, { metadata: { name }, spec }: ClaimManifest): StorageDecision | undefined {
  if (!claim) return undefined
  if (claim.metadata.deletionTimestamp)
    return refuse(
      `PVC ${name} is being deleted and waits for the pods that use it`,
      'let them end, then run the same command again',
    )
  const { volumeName } = claim.spec
  const phase = claim.status?.phase
  if (phase === 'Lost')
    return refuse(
      `PVC ${name} is Lost: its PV ${volumeName} is gone`,
      `delete PVC ${name}, make the PV again, then run make fix-pvc`,
    )
  if (phase === 'Bound' && volumeName !== spec.volumeName)
    return refuse(
      `PVC ${name} is Bound to PV ${volumeName}, not to ${spec.volumeName}`,
      'name that PV with --pv, or another claim with --pvc',
    )
  return undefined
}

function brokenVolume({ claim, volume }: Storage, { metadata, spec }: ClaimManifest): StorageDecision | undefined {
  const pv = spec.volumeName
  const ours = `${metadata.namespace}/${metadata.name}`
  if (volume === 'hidden') {
    if (claim?.status?.phase === 'Bound') return undefined
    const state = claim ? (claim.status?.phase ?? 'Pending') : 'not there'
    return refuse(
      `PVC ${metadata.name} is ${state}; looking at PV ${pv} is not permitted, so the reason is not known`,
      'ask somebody who may read PersistentVolumes to run make fix-pvc',
    )
  }
  if (!volume)
    return refuse(
      `PV ${pv} does not exist`,
      'make it, as k8s/examples/model-nfs-pv.yaml shows, or name another with --pv',
    )
  const { claimRef } = volume.spec
  const theirs = `${claimRef?.namespace}/${claimRef?.name}`
  if (claimRef && theirs !== ours)
    return refuse(
      `PV ${pv} is claimed by ${theirs}, not by ${ours}`,
      'name that claim with --pvc and --namespace, or another PV with --pv',
    )
  const { phase, message, reason } = volume.status ?? {}
  if (phase === 'Failed')
    return refuse(
      `PV ${pv} is Failed: ${message || reason || 'no reason given'}`,
      'delete the PV and make it again; its data stays on the share',
    )
  return undefined
}

function bound({ claim, volume }: Storage, { metadata, spec }: ClaimManifest): StorageDecision | undefined {
  if (claim?.status?.phase !== 'Bound') return undefined
  const sentence = `${metadata.name} is Bound to ${spec.volumeName}`
  if (volume === 'hidden')
    return { action: 'nothing', sentence: `${sentence}; looking at the PV itself is not permitted, skipped` }
  if (volume?.status?.phase === 'Bound' && volume.spec.claimRef?.uid === claim.metadata.uid)
    return { action: 'nothing', sentence }
  return undefined
}

/** What the controller would only say by leaving the claim Pending. */
function neverBinds(
  { claim, volume }: Storage,
  { metadata: { name }, spec }: ClaimManifest,
): StorageDecision | undefined {
  const wanted = spec.storageClassName
  if (claim && claim.status?.phase !== 'Bound') {
    const { volumeName, storageClassName = '' } = claim.spec
    if (volumeName !== spec.volumeName || storageClassName !== wanted)
      return refuse(
        `PVC ${name} is Pending: it asks for ${volumeName ? `PV ${volumeName}` : 'any PV'} of class ${storageClassName || 'none'}, not for PV ${spec.volumeName} of class ${wanted}`,
        `delete PVC ${name} if nothing needs it, then run make fix-pvc; or name another claim with --pvc`,
      )
  }
  if (volume === 'hidden' || !volume) return undefined
  const { storageClassName = '', accessModes = [] } = volume.spec
  if (volume.metadata.deletionTimestamp)
    return refuse(`PV ${volume.metadata.name} is being deleted`, 'make it again, then run make fix-pvc')
  if (storageClassName !== wanted || !accessModes.includes('ReadWriteMany'))
    return refuse(
      `PV ${volume.metadata.name} is ${accessModes.join(', ')} of class ${storageClassName || 'none'}: a claim for ReadWriteMany of class ${wanted} stays Pending`,
      'correct the PV, or name another with --pv',
    )
  return undefined
}

function nextStep({ claim, volume }: Storage): StorageDecision {
  if (volume === 'hidden' || !volume) return { action: 'wait' }
  const phase = volume.status?.phase
  if (phase === 'Released') return { action: 'release', resourceVersion: volume.metadata.resourceVersion }
  // What is left with a claim, or with a volume still Bound to the last one, is the controller's to do.
  return claim || phase === 'Bound' ? { action: 'wait' } : { action: 'create' }
}

function refuse(fact: string, next: string): StorageDecision {
  return { action: 'refuse', fact, next }
}
