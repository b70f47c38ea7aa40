import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { python } from '../local/cluster.mts'
import type { Outcome } from '../local/command.mts'
import { gate } from '../local/faults.mts'
import type { HubRequest } from '../local/hub.mts'
import { smallModel } from '../local/model.mts'
import { isChange } from '../local/spaces.mts'
import { createWorld, type KubeObject, versionOf, type World } from '../local/world.mts'
import { keepCopies } from './kept.mts'
import { expectStaged, filesBelow } from './proof.mts'

const model = smallModel({ id: 'acme/left', shardSize: 1_200_000 })
const sibling = smallModel({ id: 'acme/left-2', seed: 'sibling', shardSize: 1_200_000 })
const FILES = model.files.filter(({ path: name }) => !name.startsWith('original/')).length
let world: World
let restoreCopies: () => Promise<void>

beforeAll(async () => {
  world = await createWorld({ models: [model, sibling] })
  for (const { id } of [sibling, model]) await mustRun('setup-model', '--model', id)
  restoreCopies = await keepCopies(world, model.id)
})
afterAll(() => world?.close())
// Both copies are there for each test. Staging anew takes seconds, and half of the tests leave everything as it was.
beforeEach(() => restoreCopies())
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

async function named(kinds: string, slug: string): Promise<string[]> {
  const found = await world.list(kinds, { labels: `app.kubernetes.io/instance=${slug}` })
  return found.map(({ metadata }) => metadata.name)
}

/** The finished Jobs of both hops and their pods, for tests that look at these. */
async function restoreJobs(): Promise<void> {
  if ((await ours()).length < 4) await Promise.all(transfers.map((script) => mustRun(script, '--model', model.id)))
  expect(await ours(), 'two Jobs and their pods').toHaveLength(4)
}

const transfers = ['model-to-spaces', 'model-to-nfs']
const ours = () => named('jobs,pods', 'acme--left')
const movers = async () =>
  (await world.list('configmaps')).map(({ metadata }) => metadata.name).filter((name) => /^model-mover-\w+$/.test(name))
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
  beforeEach(restoreJobs)

  test('the finished Jobs and their pods go, and the movers that no Job uses; the copies stay', async () => {
    const stale = 'model-mover-0123456789'
    const labels = { 'app.kubernetes.io/part-of': 'model-storage-pipeline' }
    for (const name of [stale, 'model-mover'])
      await world.kubectl(['create', '-f', '-'], { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, labels } })
    const jobs = await world.list('jobs', { labels: 'app.kubernetes.io/instance=acme--left-2' })
    const used = new Set(JSON.stringify(jobs).match(/model-mover-\w+/g))
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
    await restoreJobs()
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
    const done = await clean('--nfs', '--yes')
    expect(done, done.stderr).toMatchObject({ code: 0 })
    expect(await readdir(path.dirname(folder()))).toEqual(['left-2'])
    expect(await keys()).toHaveLength(FILES + 1)
    await mustRun('model-to-nfs', '--model', model.id)
    await expectStaged(world, model)
  })

  test('a script that was killed leaves the rest to the next one, and the model can be staged again', async () => {
    await restoreJobs()
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
    await mustRun('setup-model', '--model', model.id)
    await expectStaged(world, model)
  })
})

describe('--dry-run', () => {
  beforeEach(restoreJobs)

  test('says what would be removed by which Jobs, and changes nothing', async () => {
    const state = async () => (await world.list('jobs,pods,configmaps')).map(versionOf)
    const before = [await state(), await keys()]
    const shown = await clean('--spaces', '--nfs', '--dry-run')
    expect(shown, shown.stderr).toMatchObject({ code: 0 })
    expect(shown.stderr).toMatch(/^• clean +of acme\/left would be removed:(\n .*){3}2 finished Jobs/m)
    expect([await state(), await keys()]).toEqual(before)
    await expectStaged(world, model)

    const steps = parseAllDocuments(shown.stdout).flatMap((document) => document.toJS() ?? [])
    const jobs = steps.filter(({ kind }) => kind === 'Job')
    expect(jobs.map(({ metadata, spec }) => [metadata.name, JSON.stringify(spec).includes('CONFIRMED')])).toEqual([
      ['model-clean-nfs-acme--left', false],
      ['model-clean-nfs-acme--left', true],
      ['model-clean-spaces-acme--left', false],
      ['model-clean-spaces-acme--left', true],
    ])
    for (const name of ['model-upload-spaces-acme--left', 'model-download-nfs-acme--left'])
      expect(shown.stdout).toMatch(new RegExp(`^# kubectl .* delete job ${name} `, 'm'))
  })
})

describe('what is told as removed', () => {
  test('is what the removal found, not what was shown before', async () => {
    world.spaces.faults.add({
      match: ({ operation }) => operation.startsWith('ListObjects'),
      times: 1,
      act: async ({ carryOut }) => {
        const answer = await carryOut()
        await world.bucket.remove(`models/${model.id}/config.json`)
        return answer
      },
    })
    const done = await clean('--spaces', '--yes', '--json')
    expect(done, done.stderr).toMatchObject({ code: 0 })
    expect(done.stderr).toMatch(new RegExp(`will be removed:\\n.* ${FILES} files`))
    expect(done.stderr).toMatch(new RegExp(`was removed:\\n.* ${FILES - 1} files`))
    expect(JSON.parse(done.stdout)).toMatchObject({ removed: { spaces: { files: FILES - 1 } } })
  })

  test('does not name what is still there, which is a failure', async () => {
    await restoreJobs()
    const stuck = 'model-upload-spaces-acme--left'
    const finalizers = (names: string[]) =>
      world.kubectl([
        'patch',
        'job',
        stuck,
        '--type=merge',
        `--patch=${JSON.stringify({ metadata: { finalizers: names } })}`,
      ])
    await finalizers(['example.com/held'])
    try {
      const done = await clean('--yes', '--json')
      expect(done, done.stderr).toMatchObject({ code: 1 })
      expect(done.stderr).not.toContain('✓ clean')
      expect(done.stderr).toMatch(/✗ clean +still there 30 s after the deletion: job\/model-upload-spaces-acme--left/)
      expect(JSON.parse(done.stdout)).toMatchObject({
        state: 'failed',
        cause: 'not-removed',
        removed: { jobs: ['model-download-nfs-acme--left'] },
      })
    } finally {
      await finalizers([])
    }
  })
})

describe('a transfer and a removal of one model', () => {
  /** A live Job as the other side's script would make it. */
  function rival(kind: string, env: { name: string; value: string }[] = []): object {
    const labels = {
      'app.kubernetes.io/name': kind,
      'app.kubernetes.io/instance': 'acme--left',
      'app.kubernetes.io/part-of': 'model-storage-pipeline',
    }
    const annotations = { 'model-storage-pipeline/model': model.id }
    const command = ['python', '-c', 'import signal; signal.pause()']
    const containers = [{ name: 'mover', image: 'python:3.11-slim', command, env }]
    return {
      apiVersion: 'batch/v1',
      kind: 'Job',
      metadata: { name: `${kind}-acme--left`, labels, annotations },
      spec: {
        template: {
          metadata: { labels, annotations },
          spec: { containers, restartPolicy: 'Never', terminationGracePeriodSeconds: 0 },
        },
      },
    }
  }

  const CONFIRMED = [{ name: 'CONFIRMED', value: 'true' }]
  const jobOf: Record<string, string> = {
    'model-to-spaces': 'model-upload-spaces',
    'model-to-nfs': 'model-download-nfs',
  }

  // The rival, and what the test itself has started and was refused: all that has not completed.
  afterEach(async () => {
    const jobs = await world.list('jobs', { labels: 'app.kubernetes.io/instance=acme--left' })
    const live = jobs.filter(({ status }) => !status.conditions?.some(({ type }) => type === 'Complete'))
    const names = live.map(({ metadata }) => metadata.name)
    if (names.length > 0) await world.kubectl(['delete', 'job', ...names, '--cascade=foreground'])
  })

  test.each(['model-clean-spaces', 'model-clean-nfs'])('no transfer starts beside a live %s', async (kind) => {
    await restoreJobs()
    await world.kubectl(['create', '-f', '-'], rival(kind, CONFIRMED))
    for (const script of transfers) {
      const before = (await world.object('job', `${jobOf[script]}-acme--left`))?.metadata.uid
      const refused = await world.run(script, ['--model', model.id])
      expect(refused, refused.stderr).toMatchObject({ code: 1, stdout: '' })
      expect(refused.stderr).toContain(`Job ${kind}-acme--left of acme/left is still running`)
      expect((await world.object('job', `${jobOf[script]}-acme--left`))?.metadata.uid).toBe(before)
    }
  })

  test('one that only looks is no rival', async () => {
    await world.kubectl(['create', '-f', '-'], rival('model-clean-nfs'))
    await mustRun('model-to-nfs', '--model', model.id)
  })

  /** A kubectl that lets the rival appear right before it creates this kind of Job: the first looks have passed. */
  async function inTheSameMoment(kind: string, other: object): Promise<Record<string, string>> {
    const shims = path.join(world.dir, `shims-${kind}-${Math.random()}`)
    await mkdir(shims)
    const file = path.join(shims, 'kubectl')
    const real = (await world.run('which', ['kubectl'])).stdout.trim()
    await writeFile(path.join(shims, 'rival.json'), JSON.stringify(other))
    await writeFile(
      file,
      `#!/bin/sh
case "$*" in
*' create '*)
  cat >'${shims}/input'
  if grep -q '"kind":"Job".*"name":"${kind}-' '${shims}/input' && grep -Eq '${kind.includes('clean') ? 'CONFIRMED' : '.'}' '${shims}/input' &&
    mkdir '${shims}/done' 2>/dev/null
  then '${real}' --context='${world.context}' --namespace='${world.namespace}' create --filename='${shims}/rival.json' >&2
  fi
  exec '${real}' "$@" <'${shims}/input' ;;
*) exec '${real}' "$@" ;;
esac
`,
    )
    await chmod(file, 0o755)
    return { PATH: `${shims}:${world.env.PATH}` }
  }

  test.each([
    ['model-to-spaces', 'model-upload-spaces', 'model-clean-spaces', CONFIRMED, []],
    ['model-to-nfs', 'model-download-nfs', 'model-clean-nfs', CONFIRMED, []],
    ['clean', 'model-clean-spaces', 'model-upload-spaces', [], ['--spaces', '--yes']],
    ['clean', 'model-clean-nfs', 'model-download-nfs', [], ['--nfs', '--yes']],
  ] as const)(
    '%s that begins in the same moment as the other takes its Job %s back',
    async (script, kind, other, env, args) => {
      const jobs = ['model-upload-spaces', 'model-download-nfs'].map((name) => `${name}-acme--left`)
      await world.kubectl(['delete', 'jobs', ...jobs, '--ignore-not-found', '--cascade=foreground'])
      const before = [await keys(), await filesBelow(folder())]
      const shim = await inTheSameMoment(kind, rival(other, [...env]))
      // A transfer that is taken back may have had a pod, which is quicker than the look: here it is not.
      world.kube.faults.pauseScheduler(script !== 'clean')
      const refused = await world.run(script, ['--model', model.id, ...args], { env: shim })
      world.kube.faults.pauseScheduler(false)
      expect(refused, refused.stderr).toMatchObject({ code: 1, stdout: '' })
      expect(refused.stderr).toContain(`Job ${other}-acme--left of acme/left is still running`)
      const gone = async () => (await world.object('job', `${kind}-acme--left`)) === undefined
      await expect.poll(gone, { timeout: 20_000 }).toBe(true)
      expect([await keys(), await filesBelow(folder())]).toEqual(before)
    },
  )
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
    expect(done.stdout).toMatch(code === 1 ? /nothing was removed/ : /interrupted.*\s+nothing was removed/)
    await expectStaged(world, model)
  })

  test('yes removes', async () => {
    const done = await onTerminal('yes\n')
    expect(done, done.stdout).toMatchObject({ code: 0 })
    const shown = stripVTControlCharacters(done.stdout)
    expect(shown.match(/^.*was removed.*$/gm), 'once, in a line of its own').toEqual(['of acme/left was removed:'])
    expect(await filesBelow(folder())).toEqual([])
  })
})
