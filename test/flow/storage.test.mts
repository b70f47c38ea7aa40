import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { real } from '../local/cluster.mts'
import type { Outcome } from '../local/command.mts'
import { createWorld, type World } from '../local/world.mts'
import { lastLine } from './proof.mts'

let world: World
let count = 0
/** Names of the test's own: one world serves them all, as making a namespace and removing it takes a real cluster seconds. */
let pv: string
let pvc: string

beforeAll(async () => {
  world = await createWorld({ volume: false })
})
afterAll(() => world?.close())

beforeEach(() => {
  count += 1
  pv = `${world.pv}-${count}`
  pvc = `claim-${count}`
})

const claim = () => world.object('pvc', pvc)
const volume = () => world.object('pv', pv)
const fixPvc = (env: Record<string, string> = {}) =>
  world.run('fix-pvc', [], { env: { MODEL_PV: pv, MODEL_PVC: pvc, ...env } })

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
  const before = [await claim(), await volume()]
  const done = await fixPvc(env)
  expect(done, done.stderr).toMatchObject({ code: 1 })
  expect(done.stderr).toMatch(pattern)
  expect(lastLine(done.stderr), 'the next step').not.toBe('')
  expect([await claim(), await volume()]).toEqual(before)
  return done
}

describe('fix-pvc ends with the claim Bound to the volume', () => {
  test('where there is no claim yet; again, it applies nothing', async () => {
    await world.addVolume(pv)
    const first = await fixPvc()
    expect(first, first.stderr).toMatchObject({ code: 0 })
    const made = await claim()
    expect(made).toMatchObject({
      spec: { volumeName: pv, storageClassName: 'nfs-static', accessModes: ['ReadWriteMany'] },
      status: { phase: 'Bound' },
    })
    expect((await volume())?.spec.claimRef).toMatchObject({ namespace: world.namespace, name: pvc })

    const again = await fixPvc()
    expect(again, again.stderr).toMatchObject({ code: 0 })
    expect((await claim())?.metadata.resourceVersion).toBe(made?.metadata.resourceVersion)
  })

  test('where the volume was Released by our own claim', async () => {
    await world.addVolume(pv)
    await fixPvc()
    const { uid } = (await claim())?.metadata ?? {}
    await world.kubectl(['delete', 'pvc', pvc])
    await phase('pv', pv, 'Released')
    const done = await fixPvc()
    expect(done, done.stderr).toMatchObject({ code: 0 })
    expect(done.stderr).toContain('claimRef')
    const made = await claim()
    expect(made).toMatchObject({ spec: { volumeName: pv }, status: { phase: 'Bound' } })
    expect(made?.metadata.uid).not.toBe(uid)
  })

  test('where the share is smaller than the manifest asks for', async () => {
    await world.addVolume(pv, { capacity: { storage: '5Gi' } })
    const done = await fixPvc()
    expect(done, done.stderr).toMatchObject({ code: 0 })
    expect(await claim()).toMatchObject({ spec: { volumeName: pv }, status: { phase: 'Bound' } })
  })
})

test('where PVs may not be read, a claim that is Bound is enough, and one that is not cannot be mended', async () => {
  await world.addVolume(pv)
  const env = await environmentWithoutVolumes()
  try {
    const unbound = await fixPvc(env)
    expect(unbound, unbound.stderr).toMatchObject({ code: 1 })
    expect(unbound.stderr).toMatch(/not permitted/)
    expect(await claim()).toBeUndefined()

    await makeClaim(pvc, pv)
    await phase('pvc', pvc, 'Bound')
    const bound = await fixPvc(env)
    expect(bound, bound.stderr).toMatchObject({ code: 0 })
    expect(bound.stderr).toMatch(/not permitted/)
  } finally {
    if (!real) world.kube.deny()
  }
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
    await expectRefusal(new RegExp(pv))
    expect(await claim()).toBeUndefined()
  })

  test('the volume was Released by somebody else', async () => {
    const claimRef = { namespace: 'elsewhere', name: 'their-claim', uid: '00000000-0000-4000-8000-000000000000' }
    await world.addVolume(pv, { claimRef })
    await phase('pv', pv, 'Released')
    await expectRefusal(/elsewhere\/their-claim/)
  })

  test('the volume is Bound to another claim', async () => {
    await world.addVolume(pv)
    await makeClaim('theirs', pv)
    await phase('pvc', 'theirs', 'Bound')
    await expectRefusal(/theirs/)
  })

  test('the claim is Bound to another volume', async () => {
    const other = `${pv}-other`
    await Promise.all([world.addVolume(pv), world.addVolume(other)])
    await makeClaim(pvc, other)
    await phase('pvc', pvc, 'Bound')
    await expectRefusal(new RegExp(other))
  })

  test('the claim is Lost', async () => {
    await world.addVolume(pv)
    await fixPvc()
    await world.kubectl(['delete', 'pv', pv, '--wait=false'])
    await world.kubectl(['patch', 'pv', pv, '--type=merge', '-p', '{"metadata":{"finalizers":null}}'])
    await phase('pvc', pvc, 'Lost')
    await expectRefusal(/Lost/)
  })

  test('the claim stays Pending: its last event is shown', async () => {
    await world.addVolume(pv, { volumeMode: 'Block' })
    await makeClaim(pvc, pv)
    const done = await expectRefusal(/✗ storage .* is Pending .*VolumeMismatch/, { MODEL_GRACE: '11' })
    expect(done.stderr, 'it is said before the grace is over').toMatch(
      /^• storage .* is Pending .*waiting for up to 11 s$/m,
    )
  })
})
