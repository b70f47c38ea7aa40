import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { real } from '../local/cluster.mts'
import { gate } from '../local/faults.mts'
import type { HubRequest } from '../local/hub.mts'
import { smallModel } from '../local/model.mts'
import { createWorld, type KubeObject, versionOf, type World } from '../local/world.mts'

const model = smallModel({ id: 'acme/rehearsed' })
const twin = smallModel({ id: 'acme/held' })
const slug = 'acme--rehearsed'
const JOB = 'model-upload-spaces-acme--held'
let world: World

beforeAll(async () => {
  world = await createWorld({ models: [model, twin] })
})
afterAll(() => world?.close())

/** Names, uids and versions of all that a run could change. */
async function state(): Promise<string[]> {
  const found = await world.list('jobs,pods,configmaps,persistentvolumeclaims')
  return [...found, (await world.object('pv', world.pv)) as KubeObject].map(versionOf)
}

/** Runs a script with --dry-run, demands that nothing has changed, and gives the objects that it printed. */
async function rehearse(script: string, args: string[] = ['--model', model.id]) {
  const before = await state()
  const moved = world.moved
  const { code, stdout, stderr } = await world.run(script, [...args, '--dry-run'])
  expect(code, stderr).toBe(0)
  expect(stderr, 'nothing is told as done').not.toMatch(/^✓ (?!preflight)|Job \S+ (started|deleted)|: joined$/m)
  expect(await state()).toEqual(before)
  expect(world.moved).toEqual(moved)
  expect(stderr).toMatch(/^• dry run +nothing is changed/m)
  const objects = parseAllDocuments(stdout).flatMap((document) => {
    expect('errors' in document ? document.errors : []).toEqual([])
    const object = document.toJS() as { kind: string; metadata: { name: string } } | null
    return object ? [object] : []
  })
  return { stdout, stderr, objects, names: objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`) }
}

describe('on an empty cluster', () => {
  test('fix-pvc prints the claim', async () => {
    const { names, stderr } = await rehearse('fix-pvc', [])
    expect(stderr).toContain(`○ storage    the PVC would be created; ${world.pvc} would then be Bound to ${world.pv}`)
    expect(names).toEqual([`PersistentVolumeClaim ${world.pvc}`])
    expect(stderr).toMatch(/1 object would be created, and the server would take them; nothing was changed/)
  })

  test('setup-model prints all that it would make, in order, as kubectl takes it', async () => {
    const { names, stdout } = await rehearse('setup-model')
    expect(names.map((name) => name.replace(/[0-9a-f]{10}$/, 'HASH'))).toEqual([
      `PersistentVolumeClaim ${world.pvc}`,
      'ConfigMap model-mover-HASH',
      `Job model-upload-spaces-${slug}`,
      `Job model-download-nfs-${slug}`,
      `Job model-verify-nfs-${slug}`,
    ])
    const done = await world.run('kubectl', ['--context', world.context, 'create', '--dry-run=server', '-f', '-'], {
      input: stdout,
    })
    expect(done, done.stderr).toMatchObject({ code: 0 })
  })

  test('it is what a run makes then', async () => {
    const { objects } = await rehearse('model-to-spaces')
    const done = await world.run('model-to-spaces', ['--model', model.id])
    expect(done, done.stderr).toMatchObject({ code: 0 })
    const printed = objects.find(({ kind }) => kind === 'Job')
    const made = await world.object('job', `model-upload-spaces-${slug}`)
    expect(made, 'and what the server adds').toMatchObject({ spec: (printed as KubeObject | undefined)?.spec })
  })
})

test('a finished Job would be replaced, and stays', async () => {
  const { stdout, stderr, names } = await rehearse('model-to-spaces')
  expect(stderr).toMatch(/^○ to Spaces {2}finished Job \S+ would be deleted\n○ to Spaces {2}Job \S+ would be started$/m)
  expect(stdout).toMatch(new RegExp(`^# kubectl .* delete job model-upload-spaces-${slug}`, 'm'))
  expect(names, 'the mover is there already').toEqual([`Job model-upload-spaces-${slug}`])
})

test('a stale claimRef would be removed, and stays', async () => {
  const made = await world.run('fix-pvc')
  expect(made, made.stderr).toMatchObject({ code: 0 })
  await world.kubectl(['delete', 'pvc', world.pvc])
  await world.kubectl(['wait', 'pv', world.pv, '--for=jsonpath={.status.phase}=Released', '--timeout=60s'])
  const { stdout, stderr, names } = await rehearse('fix-pvc', [])
  expect(stdout).toMatch(new RegExp(`^# kubectl .* patch pv ${world.pv} `, 'm'))
  expect(stderr).toContain('its stale claimRef would be removed')
  expect(names).toEqual([`PersistentVolumeClaim ${world.pvc}`])
})

test('a running Job would be joined; with other settings it is refused, and with --restart replaced', async () => {
  const held = gate<HubRequest>()
  world.hub.faults.add({ match: ({ server }) => server === 'cdn', act: held.act })
  const first = world.start('model-to-spaces', ['--model', twin.id])
  try {
    await Promise.race([held.arrived, first.outcome.then(({ stderr }) => expect.fail(stderr))])
    // The last that the cluster itself changes while the mover is held.
    await world.kubectl(['wait', `job/${JOB}`, '--for=jsonpath={.status.ready}=1', '--timeout=60s'])
    const joined = await rehearse('model-to-spaces', ['--model', twin.id])
    expect(joined.names).toEqual([])
    expect(joined.stderr).toContain('is running already with these settings: it would be joined')
    const refused = await world.run('model-to-spaces', ['--model', twin.id, '--buffer', '64Mi', '--dry-run'])
    expect(refused, refused.stderr).toMatchObject({ code: 1 })
    expect(refused.stderr).toContain('BUFFER is 256Mi there, 64Mi here')
    const args = ['--model', twin.id, '--buffer', '64Mi', '--restart']
    expect((await rehearse('model-to-spaces', args)).names).toEqual([`Job ${JOB}`])
  } finally {
    held.open()
    world.hub.faults.clear()
    await first.outcome
  }
})

test.each([
  [[], ['Job model-verify-nfs-acme--rehearsed']],
  [['--spaces'], ['Job model-verify-spaces-acme--rehearsed']],
  [['--repair'], ['Job model-download-nfs-acme--rehearsed', 'Job model-verify-nfs-acme--rehearsed']],
])('verify prints the Jobs that it would look with: %j', async (args, jobs) => {
  expect(await world.run('fix-pvc')).toMatchObject({ code: 0 })
  const { names, stderr } = await rehearse('verify', ['--model', model.id, ...args])
  expect(names.filter((name) => name.startsWith('Job'))).toEqual(jobs)
  expect(stderr).not.toContain('checkpoints')
})

test('machines are told of it too, and whether the server was asked', async () => {
  const { code, stdout, stderr } = await world.run('setup-model', ['--model', model.id, '--dry-run', '--json'])
  expect(code, stderr).toBe(0)
  const document = JSON.parse(stdout) as { stages: { state: string }[] }
  expect(document).toMatchObject({ state: 'dry-run', checked: true, manifests: expect.stringContaining('kind: ') })
  expect(new Set(document.stages.map(({ state }) => state))).toEqual(new Set(['dry-run']))
})

test('what the server would refuse fails here, too', async () => {
  await limitJobs(true)
  try {
    const args = ['--model', 'acme/too-many', '--dry-run', '--json']
    const { code, stdout, stderr } = await world.run('model-to-spaces', args)
    expect(code, stderr).toBe(1)
    expect(JSON.parse(stdout)).toMatchObject({ state: 'failed', cause: 'forbidden' })
    expect(stderr).toMatch(/✗ .*exceeded quota: none/)
    expect(stderr).not.toContain('the server would take')
  } finally {
    await limitJobs(false)
  }
})

/** A quota by which the namespace takes no Job. */
async function limitJobs(on: boolean): Promise<void> {
  const why =
    'exceeded quota: none, requested: count/jobs.batch=1, used: count/jobs.batch=0, limited: count/jobs.batch=0'
  if (!real) world.kube.faults.refuseObjects('jobs', on ? why : undefined)
  else if (on) {
    await world.kubectl(['create', 'quota', 'none', '--hard=count/jobs.batch=0'])
    // The server says something else until it has counted what is there.
    const counted = async () => (await world.object('quota', 'none'))?.status
    await expect.poll(counted, { timeout: 30_000 }).toHaveProperty('hard')
  } else await world.kubectl(['delete', 'quota', 'none'])
}

test('without a server the manifests are printed all the same, and that they are not checked is said', async () => {
  if (real) return
  await world.kube.stopApi()
  try {
    const done = await world.run('setup-model', ['--model', '1e5', '--dry-run'])
    expect(done, done.stderr).toMatchObject({ code: 0 })
    expect(done.stderr).toMatch(
      /^! dry run +up to 5 objects would be created, unchecked: the cluster does not answer$/m,
    )
    expect(done.stderr).not.toMatch(/✓|is Bound|Job \S+ started/)
    expect(done.stdout).toContain('value: "1e5"')
    const told = await world.run('setup-model', ['--model', '1e5', '--dry-run', '--json'])
    expect(JSON.parse(told.stdout)).toMatchObject({ state: 'dry-run', checked: false })
  } finally {
    await world.kube.startApi()
  }
})
