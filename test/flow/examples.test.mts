import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { parse } from 'yaml'
import { real } from '../local/cluster.mts'
import { smallModel } from '../local/model.mts'
import { createWorld, type World } from '../local/world.mts'
import { expectStaged } from './proof.mts'

const model = smallModel({ id: 'acme/served' })
let world: World

beforeAll(async () => {
  world = await createWorld({ models: [model] })
  const done = await world.run('fix-pvc')
  expect(done, done.stderr).toMatchObject({ code: 0 })
})
afterAll(() => world?.close())

interface Deployment {
  metadata: { name: string; namespace: string }
  spec: { template: { metadata: object; spec: PodSpec } }
}

interface PodSpec {
  restartPolicy?: string
  initContainers: { env: { name: string; value: string }[] }[]
  containers: { command: string[] }[]
  volumes: { persistentVolumeClaim: { claimName: string } }[]
}

/** The example as its own first lines render it, moved to the world's namespace and claim. */
async function render(commit = ''): Promise<Deployment> {
  const line = `envsubst '\${MODEL} \${MODEL_SLUG}' < k8s/examples/model-server.yaml`
  const env = { MODEL: model.id, MODEL_SLUG: 'acme--served' }
  const { stdout } = await world.run('bash', ['-euc', line], { env })
  const deployment = parse(stdout) as Deployment
  deployment.metadata.namespace = world.namespace
  const { volumes, initContainers } = deployment.spec.template.spec
  for (const { persistentVolumeClaim } of volumes) persistentVolumeClaim.claimName = world.pvc
  const variable = initContainers[0]?.env.find(({ name }) => name === 'COMMIT')
  if (!variable) throw new Error('the example waits for no commit')
  variable.value = commit
  return deployment
}

/** A pod of the example's template: the stand-in has no Deployments, and one machine has each port once. */
async function startPod(name: string, commit?: string): Promise<void> {
  const { metadata, spec } = (await render(commit)).spec.template
  spec.restartPolicy = 'Never'
  if (!real) for (const { command } of spec.containers) command.splice(command.indexOf('8000'), 1, '0')
  await world.kubectl(['create', '-f', '-'], { apiVersion: 'v1', kind: 'Pod', metadata: { ...metadata, name }, spec })
}

async function logs(pod: string, container: string): Promise<string> {
  const { stdout } = await world.run('kubectl', [
    `--context=${world.context}`,
    `--namespace=${world.namespace}`,
    'logs',
    pod,
    `--container=${container}`,
  ])
  return stdout
}

/** Waits until the pod says what it waits for, and demands that nothing serves the model yet. */
async function expectWaiting(pod: string, sentence: string): Promise<void> {
  await vi.waitFor(async () => expect(await logs(pod, 'wait-for-model')).toContain(sentence), { timeout: 60_000 })
  expect(await world.object('pod', pod)).toMatchObject({ status: { phase: 'Pending' } })
}

async function stage(): Promise<string> {
  const done = await world.run('setup-model', ['--model', model.id])
  expect(done, done.stderr).toMatchObject({ code: 0 })
  return done.stderr
}

const ready = (what: string) => world.kubectl(['wait', what, '--for=condition=Ready', '--timeout=120s'])

/** The bytes of a file of the model as the pod serves them. */
async function served(pod: string, file: string): Promise<Buffer> {
  const found = await world.object<{ status: { podIP: string } }>('pod', pod)
  const port = await vi.waitFor(async () => /port (\d+)/.exec(await logs(pod, 'server'))?.[1] ?? expect.fail('no port'))
  const answer = await fetch(`http://${real ? found?.status.podIP : '127.0.0.1'}:${port}/${file}`)
  return Buffer.from(await answer.arrayBuffer())
}

test('a server waits for the evidence, not for files, nor for a sentinel that proves nothing', async () => {
  await startPod('early')
  await expectWaiting('early', `waiting for /models/${model.id}/.download-complete\n`)
  const folder = path.join(world.volume, model.id)
  await mkdir(folder, { recursive: true })
  await writeFile(path.join(folder, '.download-complete'), '')
  await writeFile(path.join(folder, 'config.json'), 'half a mod')
  const before = (await logs('early', 'wait-for-model')).length
  await vi.waitFor(async () => expect((await logs('early', 'wait-for-model')).length).toBeGreaterThan(before), 60_000)
  await expectWaiting('early', 'waiting')

  await stage()
  await expectStaged(world, model)
  await ready('pod/early')
  expect(await served('early', 'config.json')).toEqual(model.files.find((file) => file.path === 'config.json')?.body)
})

test('a server that names a commit waits for that one', async () => {
  const next = smallModel({ id: model.id, seed: 'second' })
  const commit = await world.hub.push(next)
  await startPod('pinned', commit)
  await expectWaiting('pinned', `of commit ${commit}\n`)
  const said = await stage()
  expect(said, 'staging says whose files change').toMatch(/pods? .*(early|pinned).* mounted/)
  await ready('pod/pinned')
  expect(await served('pinned', 'config.json')).toEqual(next.files.find((file) => file.path === 'config.json')?.body)
})

test.runIf(real)('the Deployment rolls out', async () => {
  await world.kubectl(['apply', '-f', '-'], await render())
  await world.kubectl(['rollout', 'status', 'deployment/model-server-acme--served', '--timeout=120s'])
})
