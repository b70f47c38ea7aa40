import { mkdir, rm, symlink } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { which } from 'zx'
import { real } from '../local/cluster.mts'
import { smallModel } from '../local/model.mts'
import { createWorld, type KubeObject, versionOf, type World } from '../local/world.mts'
import { lastLine } from './proof.mts'

const model = smallModel({ id: 'acme/ready' })
let world: World

beforeAll(async () => {
  world = await createWorld({ models: [model] })
})
afterAll(() => world?.close())

/** Names and versions of all that a run could change; PersistentVolumes of a real cluster are others' too. */
async function state(): Promise<string[]> {
  const found = await world.list('jobs,persistentvolumeclaims')
  return [...found, (await world.object('pv', world.pv)) as KubeObject].map(versionOf)
}

/** Demands that a script ends in its preflight, having changed nothing, and gives what it said. */
async function expectProblem(script: string, args: string[] = [], env: Record<string, string> = {}): Promise<string> {
  const done = await world.run(script, args, { env })
  expect(done, done.stderr).toMatchObject({ code: 1 })
  expect(done.stderr).toMatch(/^✗ preflight/m)
  expect(lastLine(done.stderr), 'the next step').not.toBe('')
  return done.stderr
}

const setup = (env: Record<string, string> = {}) => expectProblem('setup-model', ['--model', model.id], env)
const keys = () => ({ AWS_ACCESS_KEY_ID: world.s3.accessKey, AWS_SECRET_ACCESS_KEY: world.s3.secretKey })

test('all is well: one line, and a warning for the missing hf-token', async () => {
  const done = await world.run('fix-pvc')
  expect(done, done.stderr).toMatchObject({ code: 0 })
  expect(done.stderr, 'which cluster').toMatch(
    new RegExp(`^fix-pvc +${world.pvc} -> ${world.pv}, in ${world.context}/${world.namespace}$`, 'm'),
  )
  expect(done.stderr).toMatch(/^✓ preflight +5 checks in \d+\.\d s$/m)
  const moved = await world.run('model-to-spaces', ['--model', model.id])
  expect(moved, moved.stderr).toMatchObject({ code: 0 })
  expect(moved.stderr).toMatch(/^! preflight +there is no Secret hf-token.*public models only/m)
})

describe('before the first change', () => {
  let before: string[]
  beforeEach(async () => {
    before = await state()
  })
  afterEach(async () => {
    if (!real) world.kube.deny()
    expect(await state()).toEqual(before)
  })

  test('a context that the kubeconfig does not have: those that it has are named', async () => {
    const said = await setup({ KUBE_CONTEXT: 'do-nyc2-elsewhere' })
    expect(said).toContain(`no context do-nyc2-elsewhere: it has ${world.context}`)
    expect(lastLine(said)).toContain('doctl kubernetes cluster kubeconfig save elsewhere')
    expect(said.match(/✗/g)).toHaveLength(1)
  })

  test('a namespace that is not there: said once, and not of all that would be in it', async () => {
    const said = await setup({ NAMESPACE: 'no-such-place' })
    expect(said).toContain('there is no namespace no-such-place')
    expect(said).toContain('create namespace no-such-place')
    expect(said).not.toContain('spaces-credentials')
  })

  test('a Secret that is missing, and one without its key, told without a value', async () => {
    await world.putSecret('spaces-credentials')
    try {
      expect(await setup()).toContain('there is no Secret spaces-credentials')
      await world.putSecret('spaces-credentials', { AWS_ACCESS_KEY_ID: world.s3.accessKey, AWS_SECRET_ACCESS_KEY: '' })
      const said = await setup()
      expect(said).toContain('Secret spaces-credentials lacks AWS_SECRET_ACCESS_KEY')
      expect(said).toContain('create secret generic spaces-credentials')
      expect(said).not.toContain(world.s3.accessKey)
    } finally {
      await world.putSecret('spaces-credentials', keys())
    }
  })

  test('a claim that is not there, or not Bound, for hop 2', async () => {
    const said = await expectProblem('model-to-nfs', ['--model', model.id], { MODEL_PVC: 'no-such-claim' })
    expect(said).toContain('there is no PVC no-such-claim')
    expect(lastLine(said)).toMatch(/\/scripts\/fix-pvc\.mts .*--pvc no-such-claim/)
  })

  test('is told to whoever typed make in what make takes', async () => {
    const run = (...given: string[]) => world.run('make', ['model-to-nfs', `MODEL=${model.id}`, ...given])
    const one = await run('MODEL_PVC=no-such-claim')
    expect(lastLine(one.stderr.replace(/\nmake: .*/, ''))).toMatch(/make fix-pvc .*MODEL_PVC=no-such-claim/)
    const two = await run('MODEL_PVC=no-such-claim', 'ARGS=--buffer 2Gi')
    expect(two.stderr).toMatch(
      /then run the same command again: make model-to-nfs MODEL=acme\/ready .*MODEL_PVC=no-such-claim .*ARGS='--buffer 2Gi'$/m,
    )
  })

  test('a buffer that the pods cannot hold', async () => {
    const said = await setup({ MOVER_BUFFER: '2Gi' })
    expect(said).toMatch(/a buffer of 2Gi does not fit into the memory of Job model-download-nfs-\S+, at most 2Gi$/m)
    expect(lastLine(said)).toContain('--memory')
  })

  test('more memory than any node has', async () => {
    // A limit alone keeps the manifest's request: so a class of nodes is taken away instead, on the stand-in.
    if (real) return
    for (const node of ['pool-s2vcpu4gb-1', 'pool-s2vcpu4gb-2'])
      world.kube.faults.editNode(node, ({ status }) => {
        status.allocatable.memory = '1536Mi'
      })
    try {
      const said = await setup()
      expect(said).toMatch(
        /no node can ever hold a pod of Job model-upload-spaces-acme--ready: it asks for .*memory 2Gi/,
      )
      expect(said).toMatch(/has .*memory 1536Mi/)
      expect(said).toContain('gpu-h100-1 has the taint nvidia.com/gpu')
      expect(lastLine(said)).toContain('--memory')
    } finally {
      for (const node of ['pool-s2vcpu4gb-1', 'pool-s2vcpu4gb-2'])
        world.kube.faults.editNode(node, ({ status }) => {
          status.allocatable.memory = '3110Mi'
        })
    }
  })

  test('rights that are missing are named; what may not be looked at is skipped', async () => {
    if (real) return
    world.kube.deny(
      { verbs: ['create', 'delete'], resources: ['jobs'] },
      { verbs: ['get'], resources: ['pods/log'] },
      { verbs: ['*'], resources: ['nodes', 'secrets'] },
    )
    const said = await setup()
    expect(said).toContain('create, delete jobs; get pods/log')
    world.kube.deny({ verbs: ['*'], resources: ['nodes', 'secrets'] })
    const done = await world.run('verify', ['--model', model.id])
    expect(done.stderr).toMatch(/✓ preflight .*; not permitted, skipped: nodes$/m)
    const other = await expectProblem('model-to-nfs', ['--model', model.id], { MODEL_PVC: 'no-such-claim' })
    expect(other).not.toContain('spaces-credentials')
  })

  test('several problems at once, each with its way out', async () => {
    await world.putSecret('spaces-credentials')
    if (!real) world.kube.deny({ verbs: ['create'], resources: ['configmaps'] })
    try {
      const said = await setup({ MODEL_PV: `${world.pv}-absent` })
      expect(said).toMatch(/✗ preflight +[23] problems, nothing was changed/)
      for (const fact of ['there is no Secret spaces-credentials', `not to ${world.pv}-absent`])
        expect(said).toContain(fact)
      if (!real) expect(said).toContain('create configmaps')
      expect(lastLine(said)).toContain(`scripts/setup-model.mts --model ${model.id}`)
    } finally {
      await world.putSecret('spaces-credentials', keys())
    }
  })

  test('bash and kubectl that are not installed, before anything else; envsubst, together with all else', async () => {
    const bin = path.join(world.dir, 'bin')
    await mkdir(bin)
    try {
      for (const tool of ['sh', 'env', 'dirname', 'readlink']) await symlink(`/bin/${tool}`, path.join(bin, tool))
      await symlink(process.execPath, path.join(bin, 'node'))
      const bashless = await world.run('setup-model', ['--model', model.id, '--json'], { env: { PATH: bin } })
      expect(bashless, bashless.stderr).toMatchObject({ code: 1 })
      expect(bashless.stderr).toMatch(/^✗ tools +bash is not installed$/m)
      expect(JSON.parse(bashless.stdout)).toMatchObject({ cause: 'tools', detail: 'bash is not installed' })

      await symlink('/bin/bash', path.join(bin, 'bash'))
      const done = await world.run('setup-model', ['--model', model.id], { env: { PATH: bin } })
      expect(done, done.stderr).toMatchObject({ code: 1 })
      expect(done.stderr).toMatch(/kubectl is not installed \(https:.*\n.*envsubst is not installed \(part of gettext/)

      await symlink(await which('kubectl'), path.join(bin, 'kubectl'))
      const said = await setup({ PATH: bin, NAMESPACE: 'no-such-place' })
      expect(said).toMatch(/✗ preflight +[23] problems, nothing was changed/)
      expect(said).toContain('envsubst is not installed')
      expect(said).toContain('there is no namespace no-such-place')
    } finally {
      await rm(bin, { recursive: true })
    }
  })
})

test('an API that does not answer is one problem', async () => {
  if (real) return
  await world.kube.stopApi()
  try {
    const said = await setup()
    expect(said).toContain(`the cluster of context ${world.context} does not answer`)
    expect(said.match(/does not answer/g)).toHaveLength(1)
  } finally {
    await world.kube.startApi()
  }
})

test('pods that have the volume mounted are named before hop 2', async () => {
  await world.kubectl(['create', '-f', '-'], {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'server' },
    spec: {
      containers: [
        {
          name: 'server',
          image: 'python:3.11-slim',
          command: ['sleep', '600'],
          volumeMounts: [{ name: 'models', mountPath: '/models' }],
        },
      ],
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 1,
      volumes: [{ name: 'models', persistentVolumeClaim: { claimName: world.pvc } }],
    },
  })
  const done = await world.run('model-to-nfs', ['--model', model.id])
  expect(done, done.stderr).toMatchObject({ code: 0 })
  expect(done.stderr).toMatch(new RegExp(`^! preflight +pod server has ${world.pvc} mounted: .*change under them`, 'm'))
  await world.kubectl(['delete', 'pod', 'server'])
})
