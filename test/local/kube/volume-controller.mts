import { type Kind, persistentVolumeClaims, persistentVolumes, pods } from './kinds.mts'
import { type PersistentVolume, type PersistentVolumeClaim, type Pod, timestamp } from './objects.mts'
import { quantity } from './quantity.mts'
import { WorkQueue } from './queue.mts'
import type { Recorder } from './recorder.mts'
import type { Store } from './store.mts'

/**
 * Binds claims to volumes that exist (there is no provisioner), follows what becomes of either, and keeps both from
 * being removed while they are in use.
 */
export class VolumeController {
  readonly #store: Store
  readonly #recorder: Recorder
  readonly #queue = new WorkQueue<'all'>(() => this.#sync())
  readonly #stop: () => void

  constructor(store: Store, recorder: Recorder) {
    this.#store = store
    this.#recorder = recorder
    this.#stop = store.subscribe(({ kind }) => {
      if (kind === persistentVolumes || kind === persistentVolumeClaims || kind === pods) this.#queue.add('all')
    })
  }

  close(): void {
    this.#stop()
    this.#queue.close()
  }

  #sync(): void {
    for (const claim of this.#store.list<PersistentVolumeClaim>(persistentVolumeClaims)) {
      if (claim.metadata.deletionTimestamp && claim.status.phase !== 'Bound') continue
      if (isBound(claim)) this.#checkBinding(claim)
      else this.#bind(claim)
    }
    for (const volume of this.#store.list<PersistentVolume>(persistentVolumes)) this.#followClaim(volume)
    this.#unprotect()
  }

  #bind(claim: PersistentVolumeClaim): void {
    const volumes = this.#store
      .list<PersistentVolume>(persistentVolumes)
      .filter((volume) => !volume.metadata.deletionTimestamp)
    const { volumeName } = claim.spec
    const volume = volumeName
      ? volumes.find(({ metadata }) => metadata.name === volumeName)
      : (volumes.find((candidate) => isFor(candidate, claim)) ??
        volumes
          .filter((candidate) => !candidate.spec.claimRef && fits(candidate, claim))
          .sort((a, b) => quantity(a.spec.capacity.storage) - quantity(b.spec.capacity.storage))[0])
    if (!volume) {
      if (!volumeName) this.#sayUnbound(claim)
      return
    }
    if (volume.spec.claimRef && !isFor(volume, claim)) {
      // Claimed by somebody else, or by an earlier claim of this name (its uid differs): Pending until that is undone.
      const message = `volume "${volume.metadata.name}" already bound to a different claim.`
      this.#recorder.record(claim, { type: 'Warning', reason: 'FailedBinding', message })
      return
    }
    if (!fits(volume, claim)) {
      const message = `Cannot bind to requested volume "${volume.metadata.name}": ${misfit(volume, claim)}`
      this.#recorder.record(claim, { type: 'Warning', reason: 'VolumeMismatch', message })
      return
    }
    this.#join(claim, volume)
  }

  #sayUnbound(claim: PersistentVolumeClaim): void {
    const { storageClassName } = claim.spec
    if (storageClassName) {
      const message = `storageclass.storage.k8s.io "${storageClassName}" not found`
      this.#recorder.record(claim, { type: 'Warning', reason: 'ProvisioningFailed', message })
    } else {
      const message = 'no persistent volumes available for this claim and no storage class is set'
      this.#recorder.record(claim, { type: 'Normal', reason: 'FailedBinding', message })
    }
  }

  #join(claim: PersistentVolumeClaim, volume: PersistentVolume): void {
    const { metadata } = claim
    const bound = this.#store.modify<PersistentVolume>(persistentVolumes, volume, (current) => {
      current.spec.claimRef = {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        name: metadata.name,
        namespace: metadata.namespace ?? '',
        resourceVersion: metadata.resourceVersion,
        uid: metadata.uid,
      }
      if (!volume.spec.claimRef)
        current.metadata.annotations = {
          ...current.metadata.annotations,
          'pv.kubernetes.io/bound-by-controller': 'yes',
        }
      setPhase(current, 'Bound')
    })
    if (!bound) return
    this.#store.modify<PersistentVolumeClaim>(persistentVolumeClaims, claim, (current) => {
      const chosen = current.spec.volumeName === undefined
      current.spec.volumeName = volume.metadata.name
      current.metadata.annotations = {
        ...current.metadata.annotations,
        'pv.kubernetes.io/bind-completed': 'yes',
        ...(chosen && { 'pv.kubernetes.io/bound-by-controller': 'yes' }),
      }
      current.status = { accessModes: volume.spec.accessModes, capacity: volume.spec.capacity, phase: 'Bound' }
    })
  }

  /** A bound claim whose volume is gone, or is no longer its own, is Lost. */
  #checkBinding(claim: PersistentVolumeClaim): void {
    const volume = this.#store.get<PersistentVolume>(persistentVolumes, undefined, claim.spec.volumeName ?? '')
    if (volume && !volume.spec.claimRef) {
      this.#join(claim, volume)
      return
    }
    if ((volume && isFor(volume, claim)) || claim.status.phase === 'Lost') return
    this.#store.modify<PersistentVolumeClaim>(persistentVolumeClaims, claim, (current) => {
      current.status = { phase: 'Lost' }
    })
    const [reason, message] = volume
      ? ['ClaimMisbound', 'Two claims are bound to the same volume, this one is bound incorrectly']
      : ['ClaimLost', 'Bound claim has lost its PersistentVolume. Data on the volume is lost!']
    this.#recorder.record(claim, { type: 'Warning', reason, message })
  }

  #followClaim(volume: PersistentVolume): void {
    const { claimRef } = volume.spec
    const claim =
      claimRef && this.#store.get<PersistentVolumeClaim>(persistentVolumeClaims, claimRef.namespace, claimRef.name)
    const alive = claim && claim.metadata.uid === claimRef.uid
    const phase = !claimRef?.uid ? 'Available' : alive ? 'Bound' : 'Released'
    if (volume.status.phase === phase) return
    this.#store.modify<PersistentVolume>(persistentVolumes, volume, (current) => setPhase(current, phase))
  }

  #unprotect(): void {
    // A pod counts from its scheduling until its object is gone, ended or not.
    const users = this.#store.list<Pod>(pods).filter((pod) => pod.spec.nodeName)
    for (const claim of this.#store.list<PersistentVolumeClaim>(persistentVolumeClaims)) {
      const used = users.some(
        (pod) =>
          pod.metadata.namespace === claim.metadata.namespace &&
          pod.spec.volumes?.some((volume) => volume.persistentVolumeClaim?.claimName === claim.metadata.name),
      )
      if (claim.metadata.deletionTimestamp && !used)
        this.#release(persistentVolumeClaims, claim, 'kubernetes.io/pvc-protection')
    }
    for (const volume of this.#store.list<PersistentVolume>(persistentVolumes)) {
      if (volume.metadata.deletionTimestamp && volume.status.phase !== 'Bound') {
        this.#release(persistentVolumes, volume, 'kubernetes.io/pv-protection')
      }
    }
  }

  #release(kind: Kind, object: PersistentVolume | PersistentVolumeClaim, finalizer: string): void {
    if (!object.metadata.finalizers?.includes(finalizer)) return
    this.#store.modify(kind, object, ({ metadata }) => {
      metadata.finalizers = (metadata.finalizers ?? []).filter((other) => other !== finalizer)
      if (metadata.finalizers.length === 0) delete metadata.finalizers
    })
  }
}

function setPhase(volume: PersistentVolume, phase: string): void {
  if (volume.status.phase !== phase) volume.status = { lastPhaseTransitionTime: timestamp(), phase }
}

function isBound(claim: PersistentVolumeClaim): boolean {
  return claim.metadata.annotations?.['pv.kubernetes.io/bind-completed'] === 'yes'
}

/** A claimRef without uid is a reservation made by hand, for whichever claim has the name. */
function isFor({ spec: { claimRef } }: PersistentVolume, { metadata }: PersistentVolumeClaim): boolean {
  if (claimRef?.name !== metadata.name || claimRef.namespace !== metadata.namespace) return false
  return claimRef.uid === undefined || claimRef.uid === metadata.uid
}

function fits(volume: PersistentVolume, claim: PersistentVolumeClaim): boolean {
  return misfit(volume, claim) === ''
}

/** Why the volume cannot serve the claim, in the real controller's words; empty when it can. */
function misfit(volume: PersistentVolume, claim: PersistentVolumeClaim): string {
  if (quantity(volume.spec.capacity.storage) < quantity(claim.spec.resources.requests.storage))
    return 'requested PV is too small'
  if ((volume.spec.storageClassName ?? '') !== (claim.spec.storageClassName ?? ''))
    return 'storageClassName does not match'
  if ((volume.spec.volumeMode ?? 'Filesystem') !== (claim.spec.volumeMode ?? 'Filesystem'))
    return 'incompatible volumeMode'
  if (!claim.spec.accessModes.every((mode) => volume.spec.accessModes.includes(mode))) return 'incompatible accessMode'
  return ''
}
