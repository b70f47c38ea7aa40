import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { real } from '../local/cluster.mts'
import type { Outcome } from '../local/command.mts'
import { createWorld, type KubeObject, type World } from '../local/world.mts'
import { lastLine } from './proof.mts'

let world: World

beforeEach(async () => {
  world = await createWorld()
})
afterEach(async () => {
  if (!real) world?.kube.deny()
  await world?.close()
})

const claim = () => world.object('pvc', world.pvc)
const volume = async () => (await world.object('pv', world.pv)) as KubeObject

async function makeClaim(name: string, volumeName: string, namespace = world.namespace): Promise<void> {
  await world.kubectl(['create', '-f', '-'], {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name, namespace },
    spec: {
      accessModes: ['ReadWriteMany'],
      storageClassName: 'nfs-static',
      volumeName,
      resources: { requests: { storage: '1Gi' } },
    },
  })
}

async function phase(kind: 'pv' | 'pvc', name: string, wanted: string): Promise<void> {
  await world.kubectl(['wait', kind, name, `--for=jsonpath={.status.phase}=${wanted}`, '--timeout=60s'])
}

/** Runs fix-pvc and demands that it fails with one clear line and changes nothing. */
async function expectRefusal(pattern: RegExp, env: Record<string, string> = {}): Promise<Outcome> {
  const before = [await claim(), await world.object('pv', world.pv)]
  const done = await world.run('fix-pvc', [], { env })
  expect(done, done.stderr).toMatchObject({ code: 1 })
  expect(done.stderr).toMatch(pattern)
  expect(lastLine(done.stderr), 'the next step').not.toBe('')
  expect([await claim(), await world.object('pv', world.pv)]).toEqual(before)
  return done
}

describe('fix-pvc ends with the claim Bound to the volume', () => {
  test('where there is no claim yet; again, it applies nothing', async () => {
    const first = await world.run('fix-pvc')
    expect(first, first.stderr).toMatchObject({ code: 0 })
    const made = await claim()
    expect(made).toMatchObject({
      spec: { volumeName: world.pv, storageClassName: 'nfs-static', accessModes: ['ReadWriteMany'] },
      status: { phase: 'Bound' },
    })
    expect((await volume()).spec.claimRef).toMatchObject({ namespace: world.namespace, name: world.pvc })

    const again = await world.run('fix-pvc')
    expect(again, again.stderr).toMatchObject({ code: 0 })
    expect((await claim())?.metadata.resourceVersion).toBe(made?.metadata.resourceVersion)
  })

  test('where the volume was Released by our own claim', async () => {
    await world.run('fix-pvc')
    const { uid } = (await claim())?.metadata ?? {}
    await world.kubectl(['delete', 'pvc', world.pvc])
    await phase('pv', world.pv, 'Released')
    const done = await world.run('fix-pvc')
    expect(done, done.stderr).toMatchObject({ code: 0 })
    expect(done.stderr).toContain('claimRef')
    const made = await claim()
    expect(made).toMatchObject({ spec: { volumeName: world.pv }, status: { phase: 'Bound' } })
    expect(made?.metadata.uid).not.toBe(uid)
  })

  test('where the share is smaller than the manifest asks for', async () => {
    await world.addVolume(`${world.pv}-small`, { capacity: { storage: '5Gi' } })
    const done = await world.run('fix-pvc', ['--pv', `${world.pv}-small`])
    expect(done, done.stderr).toMatchObject({ code: 0 })
    expect(await claim()).toMatchObject({ spec: { volumeName: `${world.pv}-small` }, status: { phase: 'Bound' } })
  })
})

test('where PVs may not be read, a claim that is Bound is enough, and one that is not cannot be mended', async () => {
  const env = await environmentWithoutVolumes()
  const unbound = await world.run('fix-pvc', [], { env })
  expect(unbound, unbound.stderr).toMatchObject({ code: 1 })
  expect(unbound.stderr).toMatch(/not permitted/)
  expect(await claim()).toBeUndefined()

  await makeClaim(world.pvc, world.pv)
  await phase('pvc', world.pvc, 'Bound')
  const bound = await world.run('fix-pvc', [], { env })
  expect(bound, bound.stderr).toMatchObject({ code: 0 })
  expect(bound.stderr).toMatch(/not permitted/)
})

/** Environment of a user who may do everything in the namespace and nothing with PersistentVolumes. */
async function environmentWithoutVolumes(): Promise<Record<string, string>> {
  if (!real) {
    world.kube.deny({ verbs: ['*'], resources: ['persistentvolumes'] })
    return {}
  }
  await world.kubectl(['create', 'serviceaccount', 'tenant'])
  await world.kubectl([
    'create',
    'rolebinding',
    'tenant',
    '--clusterrole=admin',
    `--serviceaccount=${world.namespace}:tenant`,
  ])
  const token = (await world.kubectl(['create', 'token', 'tenant'])).trim()
  const config = JSON.parse(await world.kubectl(['config', 'view', '--raw', '--minify', '--flatten', '-o', 'json']))
  const KUBECONFIG = path.join(world.dir, 'tenant.kubeconfig')
  await writeFile(KUBECONFIG, JSON.stringify({ ...config, users: [{ name: config.users[0].name, user: { token } }] }))
  return { KUBECONFIG }
}

describe('fix-pvc names what it cannot mend, and changes nothing', () => {
  test('the volume is missing', async () => {
    await expectRefusal(new RegExp(`${world.pv}-absent`), { MODEL_PV: `${world.pv}-absent` })
  })

  test('the volume was Released by somebody else', async () => {
    const taken = `${world.pv}-taken`
    const claimRef = { namespace: 'elsewhere', name: 'their-claim', uid: '00000000-0000-4000-8000-000000000000' }
    await world.addVolume(taken, { claimRef })
    await phase('pv', taken, 'Released')
    await expectRefusal(/elsewhere\/their-claim/, { MODEL_PV: taken })
  })

  test('the volume is Bound to another claim', async () => {
    await makeClaim('theirs', world.pv)
    await phase('pvc', 'theirs', 'Bound')
    await expectRefusal(/theirs/)
  })

  test('the claim is Bound to another volume', async () => {
    const other = `${world.pv}-other`
    await world.addVolume(other)
    await makeClaim(world.pvc, other)
    await phase('pvc', world.pvc, 'Bound')
    await expectRefusal(new RegExp(other))
  })

  test('the claim is Lost', async () => {
    await world.run('fix-pvc')
    await world.kubectl(['delete', 'pv', world.pv, '--wait=false'])
    await world.kubectl(['patch', 'pv', world.pv, '--type=merge', '-p', '{"metadata":{"finalizers":null}}'])
    await phase('pvc', world.pvc, 'Lost')
    await expectRefusal(/Lost/)
  })

  test('the claim stays Pending: its last event is shown', async () => {
    await makeClaim(world.pvc, `${world.pv}-odd`)
    await world.addVolume(`${world.pv}-odd`, { volumeMode: 'Block' })
    const done = await expectRefusal(/Pending/, { MODEL_PV: `${world.pv}-odd` })
    expect(done.stderr).toMatch(/VolumeMismatch/)
  })
})
