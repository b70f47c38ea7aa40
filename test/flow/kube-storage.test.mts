import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import type { PersistentVolume, PersistentVolumeClaim } from '../local/kube/objects.mts'
import {
  claim,
  eventsOf,
  finished,
  job,
  kube,
  mounting,
  namespace,
  ok,
  podsOf,
  read,
  until,
  useKube,
  volume,
} from './standin.mts'

useKube()

describe('storage', () => {
  test('binds, keeps its data, is Released, and binds again when the claim on it is removed', async () => {
    await ok(['apply', '-f', '-'], volume('share'))
    await ok(['apply', '-f', '-'], claim('models', 'share'))
    await until('jsonpath={.status.phase}=Bound', 'pvc/models')
    const write =
      'import os; open(os.path.join(os.environ["MODELS_DIR"], "weights"), "w").write("w"); print(os.environ["MODELS_DIR"])'
    await ok(['apply', '-f', '-'], job('writer', write, mounting('models')))
    await finished('writer')
    expect(await ok(['logs', 'job/writer'])).toBe('/models\n')
    expect(await readFile(path.join(kube.nfsFolder('share'), 'weights'), 'utf8')).toBe('w')
    // A pod's object holds the claim, even when the pod has ended.
    await ok(['delete', 'pvc', 'models', '--wait=false'])
    const held = await read<PersistentVolumeClaim>('persistentvolumeclaims', 'models')
    expect([held.status.phase, typeof held.metadata.deletionTimestamp]).toEqual(['Bound', 'string'])
    await ok(['delete', 'job', 'writer', '--cascade=foreground'])
    await until('delete', 'pvc/models')
    await until('jsonpath={.status.phase}=Released', 'pv/share')
    const { spec } = await read<PersistentVolume>('persistentvolumes', 'share')
    expect(spec.claimRef).toMatchObject({ namespace, name: 'models', uid: held.metadata.uid })

    await ok(['apply', '-f', '-'], claim('models', 'share'))
    const [said] = await eventsOf('models')
    expect((await read<PersistentVolumeClaim>('persistentvolumeclaims', 'models')).status.phase).toBe('Pending')
    expect(said?.message).toBe('volume "share" already bound to a different claim.')
    await ok(['patch', 'pv', 'share', '--type', 'json', '-p', '[{"op":"remove","path":"/spec/claimRef"}]'])
    await until('jsonpath={.status.phase}=Bound', 'pvc/models')
  })

  test.each([
    ['too small', { capacity: { storage: '1Mi' } }, 'requested PV is too small'],
    ['of another class', { storageClassName: 'other' }, 'storageClassName does not match'],
    ['of another access mode', { accessModes: ['ReadWriteOnce'] }, 'incompatible accessMode'],
  ])('does not bind a volume that is %s', async (title, spec, why) => {
    const name = title.replaceAll(' ', '-')
    await ok(['apply', '-f', '-'], volume(name, { nfs: { server: 's', path: '/p' }, ...spec }))
    await ok(['apply', '-f', '-'], claim(name, name))
    expect((await read<PersistentVolumeClaim>('persistentvolumeclaims', name)).status.phase).toBe('Pending')
    expect((await eventsOf(name)).map(({ message }) => message)).toEqual([
      `Cannot bind to requested volume "${name}": ${why}`,
    ])
  })

  test('is Lost when its volume vanishes, and keeps pods from starting', async () => {
    await ok(['apply', '-f', '-'], volume('vanishing'))
    await ok(['apply', '-f', '-'], claim('orphan', 'vanishing'))
    await until('jsonpath={.status.phase}=Bound', 'pvc/orphan')
    await ok(['delete', 'pv', 'vanishing', '--wait=false'])
    await ok(['patch', 'pv', 'vanishing', '--type', 'merge', '-p', '{"metadata":{"finalizers":null}}'])
    await until('jsonpath={.status.phase}=Lost', 'pvc/orphan')
    await ok(['apply', '-f', '-'], job('unmounted', '', mounting('orphan')))
    const [pod] = await podsOf('unmounted')
    expect(pod?.status.conditions?.[0]?.message).toContain(
      'persistentvolumeclaim "orphan" bound to non-existent persistentvolume',
    )
  })

  test('that is not bound keeps pods from starting, until it is', async () => {
    await ok(['apply', '-f', '-'], job('early', '', mounting('awaited')))
    const message = async () => (await podsOf('early'))[0]?.status.conditions?.[0]?.message
    expect(await message()).toMatch(
      /^0\/3 nodes are available: persistentvolumeclaim "awaited" not found\. preemption: /,
    )
    await ok(['apply', '-f', '-'], claim('awaited', 'awaited'))
    expect(await message()).toMatch(/^0\/3 nodes are available: pod has unbound immediate PersistentVolumeClaims\. /)
    await ok(['apply', '-f', '-'], volume('awaited'))
    await finished('early')
  })
})
