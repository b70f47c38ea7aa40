import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import type { HubFile } from '../local/hub.mts'
import { smallModel } from '../local/model.mts'
import { createWorld, type World } from '../local/world.mts'

const model = smallModel({ id: 'acme/planned' })
const bytes = (files: HubFile[]) =>
  files.reduce((sum, { body }) => sum + (body instanceof Uint8Array ? body.length : 0), 0)
const isOriginal = ({ path }: HubFile) => path.startsWith('original/')
const wanted = bytes(model.files.filter((file) => !isOriginal(file)))
const leftOut = bytes(model.files.filter(isOriginal))
const files = model.files.filter((file) => !isOriginal(file)).length
let world: World

beforeAll(async () => {
  world = await createWorld({ models: [model] })
})
afterAll(() => world?.close())

afterEach(async () => {
  const left = () => world.list('jobs,pods', { labels: 'app.kubernetes.io/name=model-plan' })
  await expect.poll(left, { timeout: 60_000, message: 'the Job and its pod are gone' }).toEqual([])
})

/** Runs the plan, demands that no model bytes move, and gives its numbers. */
async function plan(...args: string[]): Promise<Record<string, unknown>> {
  const { moved } = world
  const done = await world.run('setup-model', ['--model', model.id, '--plan', '--json', ...args])
  expect(done, done.stderr).toMatchObject({ code: 0 })
  expect(world.moved.intoBucket).toBe(moved.intoBucket)
  expect(world.moved.outOfBucket).toBe(moved.outOfBucket)
  // The access to the largest file is tried with a request for next to nothing of it.
  expect(world.moved.fromHub - moved.fromHub).toBeLessThan(10_000)
  return (JSON.parse(done.stdout) as { plan: Record<string, unknown> }).plan
}

test('before anything is there: all of it would move, and the volume is not spoken of', async () => {
  const before = { spacesFiles: 0, spacesBytes: 0, leftOutFiles: 2, leftOutBytes: leftOut, files, bytes: wanted }
  expect(await plan()).toMatchObject({ ...before, volumeLookedAt: false, freeBytes: null, exclude: ['original/*'] })
  expect(await plan('--exclude', '')).toMatchObject({ leftOutFiles: 0, bytes: wanted + leftOut })
  const shown = await world.run('make', ['plan'], { env: { MODEL: model.id } })
  expect(shown, shown.stderr).toMatchObject({ code: 0 })
  expect(shown.stdout).toMatch(/^• to Spaces .*holds nothing of it; .* to move: .* at 250 MB\/s/m)
  expect(shown.stdout).toMatch(/^• to NFS +PVC \S+ does not exist, so the volume was not looked at/m)
  expect(await world.object('pvc', world.pvc)).toBeUndefined()
})

test('half way: Spaces holds it, the volume does not', async () => {
  for (const script of ['fix-pvc', 'model-to-spaces']) {
    const done = await world.run(script, script === 'fix-pvc' ? [] : ['--model', model.id])
    expect(done, done.stderr).toMatchObject({ code: 0 })
  }
  const found = await plan()
  expect(found).toMatchObject({ spacesFiles: files, spacesBytes: wanted, volumeFiles: 0, volumeLookedAt: true })
  expect(found.freeBytes).toBeGreaterThan(0)
})

test('staged: nothing would move; after a new commit, what would change under a reader is said', async () => {
  const done = await world.run('setup-model', ['--model', model.id])
  expect(done, done.stderr).toMatchObject({ code: 0 })
  expect(await plan()).toMatchObject({ spacesBytes: wanted, volumeBytes: wanted, volumeFiles: files, changingFiles: 0 })

  const [changed] = model.files.filter(({ path }) => path.endsWith('.safetensors'))
  const body = Uint8Array.from((changed as HubFile).body as Uint8Array, (byte) => byte ^ 1)
  const rest = model.files.filter((file) => file !== changed)
  world.hub.push({ ...model, files: [...rest, { path: (changed as HubFile).path, body }] })
  const found = await plan()
  expect(found).toMatchObject({ changingFiles: 1, volumeFiles: files - 1, volumeBytes: wanted - body.length })
  // Small files are read from the Hub again to be proved.
  expect(found.spacesBytes).toBeGreaterThanOrEqual(body.length)
  expect(found.spacesBytes).toBeLessThanOrEqual(wanted - body.length)

  await world.kubectl(['create', '-f', '-'], reader())
  const shown = await world.run('setup-model', ['--model', model.id, '--plan'])
  expect(shown.stdout).toMatch(
    /^! changes +1 file on the volume would be replaced or removed, and pod server has it mounted/m,
  )
  await world.kubectl(['delete', 'pod', 'server'])
})

test('Ctrl-C leaves no Job behind', async () => {
  const running = world.start('setup-model', ['--model', model.id, '--plan'])
  await running.says(/looks at the Hub/)
  running.signal('SIGINT')
  const left = await running.outcome
  expect(left, left.stderr).toMatchObject({ code: 130 })
  expect(await running.survivors()).toEqual([])
})

test('--plan and --dry-run exclude each other', async () => {
  expect(await world.run('setup-model', ['--plan', '--dry-run'])).toMatchObject({ code: 2 })
})

function reader(): unknown {
  const volumeMounts = [{ name: 'models', mountPath: '/models' }]
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'server' },
    spec: {
      containers: [{ name: 'server', image: 'python:3.11-slim', command: ['sleep', '600'], volumeMounts }],
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 1,
      volumes: [{ name: 'models', persistentVolumeClaim: { claimName: world.pvc } }],
    },
  }
}
