import { Failure } from './failure.mts'
import { type Kubectl, KubectlError } from './kubectl.mts'
import { type ClaimManifest, renderClaim } from './manifest.mts'
import type { PersistentVolume, PersistentVolumeClaim } from './objects.mts'
import { Pace } from './pace.mts'
import type { Session } from './session.mts'
import type { Settings } from './settings.mts'

/** Binding takes the controller a second or two; a claim that is Pending longer has a reason to be. */
const GRACE_SECONDS = 30

/** The claim and its volume as the API shows them; `volume` is 'hidden' where PVs may not be read. */
export interface Storage {
  claim: PersistentVolumeClaim | undefined
  volume: PersistentVolume | 'hidden' | undefined
}

export type StorageDecision =
  | { action: 'nothing'; sentence: string }
  | { action: 'release'; resourceVersion: string }
  | { action: 'apply' }
  /** The controllers are at it. */
  | { action: 'wait' }
  | { action: 'refuse'; fact: string; next: string }

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
  return claimProblem(storage.claim, wanted) ?? volumeProblem(storage.volume, wanted) ?? nextStep(storage, wanted)
}

/** Brings the claim to Bound on its volume; gives what was done, or why it was done already, in a sentence. */
export async function bindStorage(session: Session): Promise<string> {
  const { settings, cluster, story, signal } = session
  const pace = new Pace(Math.min(GRACE_SECONDS, settings.timeout), signal, story)
  const done: string[] = []
  let applied = false
  for (;;) {
    const storage = await readStorage(cluster, settings)
    const wanted = await wantedClaim(storage, settings)
    const decision = decideStorage(storage, wanted)
    switch (decision.action) {
      case 'refuse':
        throw new Failure(decision.fact, decision.next)
      case 'nothing':
        return done.length === 0 ? `${decision.sentence} (was already)` : `${decision.sentence} (${done.join(', ')})`
      case 'release':
        if (await release(cluster, settings.pv, decision.resourceVersion))
          done.push(`stale claimRef of ${settings.pv} removed`)
        break
      case 'apply': {
        if (applied) break
        const said = await cluster.apply(wanted)
        if (said !== 'unchanged') done.push(`claim ${said}`)
        applied = true
        break
      }
      case 'wait':
    }
    if (pace.over) throw await pending(cluster, storage.claim, settings)
    await pace.wait()
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
    if (error instanceof KubectlError && (error.reason === 'invalid' || error.reason === 'conflict')) return false
    throw error
  }
}

function claimProblem(claim: PersistentVolumeClaim | undefined, wanted: ClaimManifest): StorageDecision | undefined {
  if (!claim) return undefined
  const { name } = wanted.metadata
  const pv = wanted.spec.volumeName
  if (claim.metadata.deletionTimestamp)
    return refuse(
      `PVC ${name} is being deleted and waits for the pods that use it`,
      'let them end, then run the same command again',
    )
  const { volumeName, storageClassName = '' } = claim.spec
  const phase = claim.status?.phase ?? 'Pending'
  if (phase === 'Lost')
    return refuse(
      `PVC ${name} is Lost: its PV ${volumeName} is gone`,
      `delete PVC ${name}, make the PV again, then run the same command again`,
    )
  if (phase === 'Bound' && volumeName !== pv)
    return refuse(
      `PVC ${name} is Bound to PV ${volumeName}, not to ${pv}`,
      'name that PV with --pv, or another claim with --pvc',
    )
  if (volumeName !== pv || storageClassName !== wanted.spec.storageClassName)
    return refuse(
      `PVC ${name} is ${phase} and asks for ${volumeName ? `PV ${volumeName}` : 'any PV'} of class ${storageClassName || 'none'}, not for PV ${pv} of class ${wanted.spec.storageClassName}`,
      `delete PVC ${name} if nothing needs it, then run the same command again; or name another claim with --pvc`,
    )
  return undefined
}

function volumeProblem(volume: Storage['volume'], wanted: ClaimManifest): StorageDecision | undefined {
  if (volume === 'hidden') return undefined
  const { name, namespace } = wanted.metadata
  const pv = wanted.spec.volumeName
  if (!volume) return refuse(`PV ${pv} does not exist`, 'make it (terraform owns it), or name another with --pv')
  if (volume.metadata.deletionTimestamp)
    return refuse(`PV ${pv} is being deleted`, 'make it again, then run the same command again')
  const { phase, message, reason } = volume.status ?? {}
  if (phase === 'Failed')
    return refuse(
      `PV ${pv} is Failed: ${message || reason || 'no reason given'}`,
      'delete it and make it again (its data stays on the share)',
    )
  const { claimRef, storageClassName = '', accessModes = [] } = volume.spec
  if (claimRef && (claimRef.namespace !== namespace || claimRef.name !== name))
    return refuse(
      `PV ${pv} is claimed by ${claimRef.namespace}/${claimRef.name}, not by ${namespace}/${name}`,
      'name that claim with --pvc and --namespace, or another PV with --pv',
    )
  if (storageClassName !== wanted.spec.storageClassName || !accessModes.includes('ReadWriteMany'))
    return refuse(
      `PV ${pv} has class ${storageClassName || 'none'} and access ${accessModes.join(', ')}; the claim asks for ${wanted.spec.storageClassName} and ReadWriteMany, so they never bind`,
      'correct the PV, or name another with --pv',
    )
  return undefined
}

function nextStep({ claim, volume }: Storage, wanted: ClaimManifest): StorageDecision {
  const sentence = `${wanted.metadata.name} is Bound to ${wanted.spec.volumeName}`
  const claimed = claim?.status?.phase === 'Bound'
  if (volume === 'hidden' || !volume)
    return claimed ? { action: 'nothing', sentence: `${sentence}, which may not be looked at` } : { action: 'apply' }
  const phase = volume.status?.phase
  if (phase === 'Released') return { action: 'release', resourceVersion: volume.metadata.resourceVersion }
  if (phase === 'Bound' && claimed && volume.spec.claimRef?.uid === claim.metadata.uid)
    return { action: 'nothing', sentence }
  // One of the two says Bound and the other does not yet: the controller is at it.
  if (claimed || (phase === 'Bound' && volume.spec.claimRef?.uid !== claim?.metadata.uid)) return { action: 'wait' }
  return { action: 'apply' }
}

async function pending(
  cluster: Kubectl,
  claim: PersistentVolumeClaim | undefined,
  { pv, pvc }: Settings,
): Promise<Failure> {
  const events = claim ? await cluster.events(claim.metadata.uid) : []
  const last = events.at(-1)
  const why = last ? `its last event: ${last.reason}: ${last.message}` : 'it has no event'
  return new Failure(
    `PVC ${pvc} is ${claim?.status?.phase ?? 'not there'} and not Bound to ${pv}; ${why}`,
    `compare them: ${cluster.command('describe', `pv/${pv}`, `pvc/${pvc}`)}`,
  )
}

function refuse(fact: string, next: string): StorageDecision {
  return { action: 'refuse', fact, next }
}
