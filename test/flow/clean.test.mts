import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { python } from '../local/cluster.mts'
import type { Outcome } from '../local/command.mts'
import { gate } from '../local/faults.mts'
import type { HubRequest } from '../local/hub.mts'
import { smallModel } from '../local/model.mts'
import { isChange } from '../local/spaces.mts'
import { createWorld, type KubeObject, type World } from '../local/world.mts'
import { expectStaged, filesBelow } from './proof.mts'

const model = smallModel({ id: 'acme/left', shardSize: 1_200_000 })
const sibling = smallModel({ id: 'acme/left-2', seed: 'sibling', shardSize: 1_200_000 })
const FILES = model.files.filter(({ path: name }) => !name.startsWith('original/')).length
let world: World

beforeAll(async () => {
  world = await createWorld({ models: [model, sibling] })
  await mustRun('setup-model', '--model', sibling.id)
})
afterAll(() => world?.close())
beforeEach(async () => {
  await rm(path.join(folder(), 'notes'), { recursive: true, force: true })
  await world.bucket.remove(`models/${model.id}/stranger.bin`)
  await mustRun('setup-model', '--model', model.id)
})
afterEach(async () => {
  await expectStaged(world, sibling)
  expect(await named('jobs', 'acme--left-2'), 'the sibling’s Jobs').toHaveLength(2)
})

async function mustRun(script: string, ...args: string[]): Promise<Outcome> {
  const done = await world.run(script, args)
  expect(done, done.stderr).toMatchObject({ code: 0 })
  return done
}

const clean = (...args: string[]) => world.run('clean', ['--model', model.id, ...args])

async function named(kind: string, slug: string): Promise<string[]> {
  const list = ['get', kind, '-o', 'name', '-l', `app.kubernetes.io/instance=${slug}`]
  return (await world.kubectl(list)).trim().split('\n').filter(Boolean)
}

const ours = () => named('jobs,pods', 'acme--left')
const movers = async () => (await world.kubectl(['get', 'configmaps', '-o', 'name'])).match(/model-mover-\w+/g) ?? []
const folder = () => path.join(world.volume, model.id)
const keys = () => world.bucket.keys(`models/${model.id}/`)

/** A pod that keeps the claim mounted, as a server does. */
async function mount(name: string): Promise<void> {
  await world.kubectl(['create', '-f', '-'], {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 0,
      containers: [
        {
          name: 'server',
          image: 'python:3.11-slim',
          command: ['python', '-c', 'import signal; signal.pause()'],
          volumeMounts: [{ name: 'models', mountPath: '/models', readOnly: true }],
        },
      ],
      volumes: [{ name: 'models', persistentVolumeClaim: { claimName: world.pvc } }],
    },
  })
}

test('nobody to ask: exit 2 before any call, unless --yes is given', async () => {
  const env = { KUBECONFIG: '/nowhere' }
  for (const args of [[], ['--spaces', '--nfs'], ['--quiet']]) {
    const done = await world.run('clean', ['--model', model.id, ...args], { env })
    expect(done).toMatchObject({ code: 2, stdout: '' })
    expect(done.stderr).toContain('--yes')
  }
  expect(await ours()).not.toEqual([])
})

describe('without --spaces and --nfs', () => {
  test('the finished Jobs and their pods go, and the movers that no Job uses; the copies stay', async () => {
    const stale = 'model-mover-0123456789'
    const labels = { 'app.kubernetes.io/part-of': 'model-storage-pipeline' }
    for (const name of [stale, 'model-mover'])
      await world.kubectl(['create', '-f', '-'], { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, labels } })
    const jobs = ['get', 'jobs', '-o', 'json', '-l', 'app.kubernetes.io/instance=acme--left-2']
    const used = new Set((await world.kubectl(jobs)).match(/model-mover-\w+/g))
    expect(await ours()).toHaveLength(4)

    const done = await clean('--yes')
    expect(done, done.stderr).toMatchObject({ code: 0 })
    expect(done.stdout).toMatch(/2 finished Jobs: model-.*-acme--left, model-.*-acme--left$/m)
    expect(done.stdout).toMatch(/ConfigMaps? that no Job uses?: .*model-mover-0123456789/)
    expect(await ours()).toEqual([])
    expect(new Set(await movers()), 'those of the sibling’s Jobs').toEqual(used)
    expect(await world.object('configmap', 'model-mover'), 'the by-hand flow’s').toBeDefined()
    await expectStaged(world, model)
    await world.kubectl(['delete', 'configmap', 'model-mover'])

    const again = await clean('--yes')
    expect(again, again.stderr).toMatchObject({ code: 0 })
    expect(again.stdout).toMatch(/^nothing of acme\/left to remove in the namespace$/m)
  })

  test('a finished pod whose Job was deleted without it goes too', async () => {
    await world.kubectl(['delete', 'jobs', '-l', 'app.kubernetes.io/instance=acme--left', '--cascade=orphan'])
    expect(await ours()).toHaveLength(2)
    const done = await clean('--yes')
    expect(done, done.stderr).toMatchObject({ code: 0 })
    expect(done.stdout).toContain('2 finished pods without a Job')
    expect(await ours()).toEqual([])
  })
})

describe('with --spaces and --nfs', () => {
  test('both copies go, unknown files are left and named, and so is who has the volume mounted', async () => {
    await mount('llm-server')
    await mkdir(path.join(folder(), 'notes'))
    await writeFile(path.join(folder(), 'notes/mine.txt'), 'not ours')
    world.spaces.bucket(world.bucket.name).replace(`models/${model.id}/stranger.bin`, 'not ours')

    const done = await clean('--spaces', '--nfs', '--yes', '--json')
    expect(done, done.stderr).toMatchObject({ code: 0 })
    expect(done.stderr).toMatch(/pod llm-server has models mounted/)
    expect(JSON.parse(done.stdout)).toMatchObject({
      script: 'clean',
      state: 'done',
      removed: {
        spaces: { files: FILES, left: ['stranger.bin'] },
        nfs: { files: FILES, left: ['notes/mine.txt'] },
        jobs: expect.arrayContaining(['model-upload-spaces-acme--left']),
      },
    })
    expect(await keys()).toEqual([`models/${model.id}/stranger.bin`])
    expect(await filesBelow(folder())).toEqual(['notes/mine.txt'])
    expect(await ours()).toEqual([])
    await world.kubectl(['delete', 'pod', 'llm-server'])

    const again = await clean('--spaces', '--nfs', '--yes')
    expect(again, again.stderr).toMatchObject({ code: 0 })
    expect(again.stdout).toMatch(/^nothing of acme\/left to remove in the namespace, the volume, Spaces$/m)
    expect(again.stdout).toContain("left in Spaces, as nothing lists it as the model's: stranger.bin")
    expect(await world.run('verify', ['--model', model.id])).toMatchObject({ code: 1 })
  })

  test('one copy goes without the other', async () => {
    expect(await clean('--nfs', '--yes')).toMatchObject({ code: 0 })
    expect(await readdir(path.dirname(folder()))).toEqual(['left-2'])
    expect(await keys()).toHaveLength(FILES + 1)
    await mustRun('model-to-nfs', '--model', model.id)
    await expectStaged(world, model)
  })

  test('a script that was killed leaves the rest to the next one', async () => {
    const held = gate<ReturnType<World['spaces']['requests']['at']> & object>()
    const match = ({ operation, key }: { operation: string; key: string }) =>
      operation === 'DeleteObject' && key.endsWith('config.json')
    world.spaces.faults.add({ match, act: held.act })
    const running = world.start('clean', ['--model', model.id, '--spaces', '--yes'])
    await held.arrived
    expect(await keys(), 'the evidence goes first').not.toContain(`models/${model.id}/.upload-complete`)
    running.signal('SIGKILL')
    await running.outcome
    const refused = await clean('--spaces', '--yes')
    expect(refused).toMatchObject({ code: 1 })
    expect(refused.stderr).toContain('Job model-clean-spaces-acme--left of acme/left is still running')
    await world.kubectl(['delete', 'job', 'model-clean-spaces-acme--left', '--cascade=foreground'])
    held.open()
    world.spaces.faults.clear()

    const done = await clean('--spaces', '--yes')
    expect(done, done.stderr).toMatchObject({ code: 0 })
    expect(await keys()).toEqual([])
    expect(await ours()).toEqual([])
  })
})

describe('while something works on the model', () => {
  test('nothing is removed, and it is named', async () => {
    const held = gate<HubRequest>()
    world.hub.faults.add({ match: ({ path: route }) => route.includes('/tree/'), act: held.act })
    const running = world.start('model-to-spaces', ['--model', model.id])
    await held.arrived
    const { metadata } = (await world.object('job', 'model-upload-spaces-acme--left')) as KubeObject
    const before = world.spaces.requests.length
    const refused = await clean('--spaces', '--nfs', '--yes')
    expect(refused, refused.stderr).toMatchObject({ code: 1, stdout: '' })
    expect(refused.stderr).toContain('Job model-upload-spaces-acme--left of acme/left is still running')
    expect((await world.object('job', 'model-upload-spaces-acme--left'))?.metadata.uid).toBe(metadata.uid)
    expect(world.spaces.requests.slice(before).filter(isChange)).toEqual([])
    held.open()
    world.hub.faults.clear()
    expect((await running.outcome).code).toBe(0)
  })
})

describe('on a terminal', () => {
  const terminal = path.resolve('test/local/terminal.py')

  function onTerminal(answer: string): Promise<Outcome> {
    const command = [path.resolve('scripts/clean.mts'), '--model', model.id, '--nfs']
    return world.run(path.join(python, 'python'), [terminal, 'Type yes', answer, ...command])
  }

  test.each([
    ['no', 'no\n', 1],
    ['Enter', '\n', 1],
    ['Ctrl-D', '\u0004', 1],
    ['Ctrl-C', '\u0003', 130],
  ])('%s to the question changes nothing', async (_, answer, code) => {
    const done = await onTerminal(answer)
    expect(done, done.stdout).toMatchObject({ code })
    expect(done.stdout).toMatch(/models:\/acme\/left\/ 12 files, .*commit/)
    expect(done.stdout).toMatch(code === 1 ? /nothing was removed/ : /interrupted/)
    await expectStaged(world, model)
  })

  test('yes removes', async () => {
    const done = await onTerminal('yes\n')
    expect(done, done.stdout).toMatchObject({ code: 0 })
    expect(await filesBelow(folder())).toEqual([])
  })
})
