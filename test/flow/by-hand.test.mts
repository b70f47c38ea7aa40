import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Outcome, Running } from '../local/command.mts'
import { smallModel } from '../local/model.mts'
import { createWorld, type World } from '../local/world.mts'
import { type Evidence, expectStaged, filesBelow } from './proof.mts'

// What the README has one type, and what the scripts do without a single setting: with the names that stand in the
// files, and the default model's, under which the Hub has a small one here.

const model = smallModel({ id: 'meta-llama/Llama-3.1-8B-Instruct' })
const CONTEXT = 'do-nyc2-gtc-demo'
let world: World
let readme: string
let env: Record<string, string>

beforeAll(async () => {
  readme = await readFile('README.md', 'utf8')
  world = await createWorld({
    models: [model],
    namespace: 'dynamo-workload',
    pv: 'model-nfs-pv',
    pvc: 'model-nfs-pvc',
    bucket: 'do-gtc2026-doks-demo',
  })
  // A copy, as `kubectl config use-context` writes to it, in which the cluster goes by the default's name.
  const config = JSON.parse(await world.kubectl(['config', 'view', '--raw', '--minify', '-o', 'json']))
  config.contexts[0].name = CONTEXT
  const file = path.join(world.dir, 'demo-kubeconfig')
  await writeFile(file, JSON.stringify({ ...config, 'current-context': '' }), { mode: 0o600 })
  const { PATH = '', HOME = '', HF_ENDPOINT = '', SPACES_ENDPOINT = '' } = world.env
  env = { PATH, HOME, KUBECONFIG: file, HF_ENDPOINT, SPACES_ENDPOINT }
})
afterAll(() => world?.close())

/** The indented lines of a section of the README, of which some hold these words. */
function blockOf(heading: string, words: string): string {
  const section = readme.split(/^## /m).find((text) => text.startsWith(`${heading}\n`)) ?? ''
  const blocks = [...section.matchAll(/(?:^ {4}.*\n)+/gm)].map(([block]) => block.replaceAll(/^ {4}/gm, '').trim())
  const found = blocks.filter((block) => block.includes(words))
  expect(found, `blocks with ${words} in section ${heading}`).toHaveLength(1)
  return found[0] ?? ''
}

/** Runs lines as somebody types them, with nothing set but KUBECONFIG and the addresses of the stand-ins. */
function shell(lines: string, cwd = '.'): Promise<Outcome> {
  return new Running('bash', ['-euo', 'pipefail', '-c', lines], { env, cwd: path.resolve(cwd) }).outcome
}

async function mustRun(lines: string): Promise<Outcome> {
  const done = await shell(lines)
  expect(done, done.stdout + done.stderr).toMatchObject({ code: 0 })
  return done
}

test('the lines of the README stage a model with kubectl and envsubst', async () => {
  // On their way into the cluster the addresses of the stand-ins take the place of the real ones.
  const kubectl = `kubectl() {
    if [ "$*" = 'apply -f -' ]
    then command kubectl set env --local -f - "HF_ENDPOINT=$HF_ENDPOINT" "ENDPOINT=$SPACES_ENDPOINT" -o yaml | command kubectl apply -f -
    else command kubectl "$@"
    fi
  }`
  const { stdout } = await mustRun(`${kubectl}\n${blockOf('By hand', 'envsubst')}`)
  expect(stdout).toMatch(/✓ verdict/)
  await expectStaged(world, model)
})

test('the line of the README proves the files against the evidence without any of our tools', async () => {
  const [cd = '', check = ''] = blockOf('The evidence', 'sha256sum').split('\n')
  expect(cd).toBe(`cd /models/${model.id}`)
  const folder = path.join(world.volume, model.id)
  const evidence = JSON.parse(await readFile(path.join(folder, '.download-complete'), 'utf8')) as Evidence
  const good = await shell(check, folder)
  expect(good, good.stderr).toMatchObject({ code: 0 })
  expect(good.stdout.trimEnd().split('\n')).toEqual(evidence.files.map(({ path: name }) => `${name}: OK`))

  const copy = path.join(world.dir, 'copy')
  for (const name of await filesBelow(folder)) {
    const bytes = await readFile(path.join(folder, name))
    if (name === 'config.json') bytes.writeUInt8(bytes.readUInt8(7) ^ 1, 7)
    await mkdir(path.dirname(path.join(copy, name)), { recursive: true })
    await writeFile(path.join(copy, name), bytes)
  }
  const bad = await shell(check, copy)
  expect(bad.code).not.toBe(0)
  expect(bad.stdout.split('\n').filter((line) => line.endsWith(': FAILED'))).toEqual(['config.json: FAILED'])
})

test('make setup-model without a single setting stages the default model under the default names', async () => {
  await world.kubectl(['delete', 'jobs', '--all', '--cascade=foreground'])
  await world.kubectl(['delete', 'pvc', world.pvc])
  await rm(path.join(world.volume, 'meta-llama'), { recursive: true })
  for (const key of await world.bucket.keys('models/')) await world.bucket.remove(key)

  const { stderr } = await mustRun('make setup-model')
  expect(stderr).toContain(`${model.id} -> s3://do-gtc2026-doks-demo -> model-nfs-pvc, in ${CONTEXT}/dynamo-workload`)
  await expectStaged(world, model)
  const claim = await world.object('pvc', 'model-nfs-pvc')
  expect(claim).toMatchObject({ status: { phase: 'Bound' }, spec: { volumeName: 'model-nfs-pv' } })
  // Where servers look for it, once the volume is mounted at /models.
  expect(await filesBelow(path.join(world.volume, 'meta-llama/Llama-3.1-8B-Instruct'))).toContain('.download-complete')
})
