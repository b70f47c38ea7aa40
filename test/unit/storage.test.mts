import { describe, expect, test } from 'vitest'
import { KubectlError } from '../../scripts/lib/kubectl.mts'
import type { ClaimManifest } from '../../scripts/lib/manifest.mts'
import type { PersistentVolume, PersistentVolumeClaim } from '../../scripts/lib/objects.mts'
import type { Session } from '../../scripts/lib/session.mts'
import { readSettings } from '../../scripts/lib/settings.mts'
import { bindStorage, decideStorage, type Storage } from '../../scripts/lib/storage.mts'
import { Story } from '../../scripts/lib/story.mts'

const wanted: ClaimManifest = {
  apiVersion: 'v1',
  kind: 'PersistentVolumeClaim',
  metadata: { name: 'c', namespace: 'ns' },
  spec: {
    accessModes: ['ReadWriteMany'],
    storageClassName: 'nfs-static',
    volumeName: 'v',
    resources: { requests: { storage: '1Gi' } },
  },
}

function metadata(name: string, deleting = false) {
  const base = { name, uid: `uid-${name}`, resourceVersion: '7', creationTimestamp: '2026-01-01T00:00:00Z' }
  return deleting ? { ...base, deletionTimestamp: '2026-01-01T00:00:00Z' } : base
}

function claim(
  phase: string,
  spec: Partial<PersistentVolumeClaim['spec']> = {},
  deleting = false,
): PersistentVolumeClaim {
  return {
    metadata: metadata('c', deleting),
    spec: { volumeName: 'v', storageClassName: 'nfs-static', ...spec },
    status: { phase },
  }
}

function volume(
  phase: string,
  by?: string,
  more: Partial<PersistentVolume['spec']> = {},
  deleting = false,
): PersistentVolume {
  const [namespace, name, uid = `uid-${name}`] = by?.split('/') ?? []
  const claimRef = namespace && name ? { claimRef: { namespace, name, uid } } : {}
  return {
    metadata: metadata('v', deleting),
    spec: { storageClassName: 'nfs-static', accessModes: ['ReadWriteMany'], ...claimRef, ...more },
    status: { phase, message: phase === 'Failed' ? 'no recycler' : '' },
  }
}

describe('claim and volume:', () => {
  test.each<[string, Storage, string, RegExp?]>([
    ['bound to each other', { claim: claim('Bound'), volume: volume('Bound', 'ns/c') }, 'nothing', /c is Bound to v/],
    [
      'bound to each other, of another class',
      { claim: claim('Bound', { storageClassName: '' }), volume: volume('Bound', 'ns/c', { storageClassName: '' }) },
      'nothing',
    ],
    ['bound, the volume hidden', { claim: claim('Bound'), volume: 'hidden' }, 'nothing', /not permitted/],
    ['none, the volume hidden', { claim: undefined, volume: 'hidden' }, 'refuse', /not permitted/],
    ['pending, the volume hidden', { claim: claim('Pending'), volume: 'hidden' }, 'refuse', /Pending/],
    ['none, the volume free', { claim: undefined, volume: volume('Available') }, 'create'],
    ['none, the volume kept for us', { claim: undefined, volume: volume('Available', 'ns/c/') }, 'create'],
    ['none, the volume released by us', { claim: undefined, volume: volume('Released', 'ns/c/old') }, 'release'],
    [
      'pending, the volume released by us',
      { claim: claim('Pending'), volume: volume('Released', 'ns/c/old') },
      'release',
    ],
    ['pending, the volume free', { claim: claim('Pending'), volume: volume('Available') }, 'wait'],
    ['none, the volume still bound to our last', { claim: undefined, volume: volume('Bound', 'ns/c/old') }, 'wait'],
    ['bound, the volume not yet', { claim: claim('Bound'), volume: volume('Available', 'ns/c') }, 'wait'],
    ['none, no volume', { claim: undefined, volume: undefined }, 'refuse', /PV v does not exist/],
    [
      'none, the volume released by others',
      { claim: undefined, volume: volume('Released', 'their/claim/u') },
      'refuse',
      /their\/claim/,
    ],
    [
      'none, the volume bound to others',
      { claim: undefined, volume: volume('Bound', 'ns/other') },
      'refuse',
      /ns\/other/,
    ],
    ['none, the volume failed', { claim: undefined, volume: volume('Failed', 'ns/c/old') }, 'refuse', /no recycler/],
    [
      'none, the volume being deleted',
      { claim: undefined, volume: volume('Available', undefined, {}, true) },
      'refuse',
      /being deleted/,
    ],
    [
      'none, the volume of another class',
      { claim: undefined, volume: volume('Available', undefined, { storageClassName: 'fast' }) },
      'refuse',
      /class fast/,
    ],
    [
      'none, the volume for one node',
      { claim: undefined, volume: volume('Available', undefined, { accessModes: ['ReadWriteOnce'] }) },
      'refuse',
      /ReadWriteOnce/,
    ],
    ['lost', { claim: claim('Lost'), volume: undefined }, 'refuse', /Lost/],
    ['lost, the volume made again', { claim: claim('Lost'), volume: volume('Available') }, 'refuse', /Lost/],
    [
      'bound elsewhere',
      { claim: claim('Bound', { volumeName: 'w' }), volume: volume('Available') },
      'refuse',
      /Bound to PV w, not to v/,
    ],
    ['being deleted', { claim: claim('Bound', {}, true), volume: volume('Bound', 'ns/c') }, 'refuse', /being deleted/],
    [
      'pending for another volume',
      { claim: claim('Pending', { volumeName: 'w' }), volume: volume('Available') },
      'refuse',
      /asks for PV w/,
    ],
    [
      'pending for any volume',
      { claim: { ...claim('Pending'), spec: { storageClassName: 'x' } }, volume: volume('Available') },
      'refuse',
      /any PV of class x/,
    ],
  ])('%s', (_, storage, action, words = /(?:)/) => {
    const decision = decideStorage(storage, wanted)
    expect(decision).toMatchObject({ action })
    expect(JSON.stringify(decision)).toMatch(words)
  })
})

test('a policy that refuses the patch of a Released volume has the last word; a volume that changed is looked at again', async () => {
  const refused = new KubectlError('invalid', 'the policy says no', 'ask')
  const released = (resourceVersion: string) => {
    const found = volume('Released', 'ns/c')
    return { ...found, metadata: { ...found.metadata, resourceVersion } }
  }
  const bind = async (versions: string[]) => {
    const patched: unknown[] = []
    const cluster = {
      find: async (kind: string) =>
        kind === 'pv' ? released(versions.length > 1 ? (versions.shift() ?? '') : (versions[0] ?? '')) : undefined,
      patch: async (_kind: string, _name: string, operations: unknown) => {
        patched.push(operations)
        throw refused
      },
    }
    const settings = readSettings('x', ['pv', 'pvc', 'namespace'], ['--pv', 'v', '--pvc', 'c', '--namespace', 'ns'], {})
    const session = { cluster, settings, story: new Story(() => {}), signal: new AbortController().signal }
    await expect(bindStorage(session as unknown as Session)).rejects.toBe(refused)
    return patched
  }
  expect(await bind(['7'])).toEqual([
    [
      { op: 'test', path: '/metadata/resourceVersion', value: '7' },
      { op: 'remove', path: '/spec/claimRef' },
    ],
  ])
  // Looked at, changed when it was looked at behind the refusal, and then no more.
  expect(await bind(['7', '8'])).toHaveLength(2)
})
