import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { smallModel } from '../local/model.mts'
import { createWorld, type KubeObject, type World } from '../local/world.mts'

const TOKENS = { member: 'hf_member_0123456789', visitor: 'hf_visitor_0123456789', stranger: 'hf_stranger_0123456789' }
const gated = { ...smallModel({ id: 'acme/gated' }), gated: true }
const open = smallModel({ id: 'acme/open' })
let world: World

beforeAll(async () => {
  const tokens = { [TOKENS.member]: [gated.id], [TOKENS.visitor]: [] }
  world = await createWorld({ models: [gated, open], tokens })
  const done = await world.run('fix-pvc')
  expect(done, done.stderr).toMatchObject({ code: 0 })
})
afterAll(() => world?.close())
beforeEach(() => world.putSecret('hf-token'))

/** Demands that a script fails for a Job's cause, with that cause, soon, and without a retry that cannot help. */
async function expectFailure(script: string, args: string[], job: string, cause: RegExp, env = {}): Promise<string> {
  const done = await world.run(script, args, { env })
  const ended = Date.now()
  expect(done, done.stderr).toMatchObject({ code: 1 })
  expect(done.stderr).toMatch(cause)
  const { status } = (await world.object('job', job)) as KubeObject
  const failed = status.conditions?.find(({ type }) => type === 'Failed')
  expect(failed, 'exit code 64 fails the Job at once').toMatchObject({ status: 'True', reason: 'PodFailurePolicy' })
  expect(ended - Date.parse(failed?.lastTransitionTime ?? ''), 'milliseconds behind the Job').toBeLessThan(10_000)
  const said = done.stdout + done.stderr + JSON.stringify(await world.object('job', job))
  for (const token of Object.values(TOKENS)) expect(said).not.toContain(token)
  return done.stderr
}

test('no such model', async () => {
  await expectFailure('setup-model', ['--model', 'acme/nowhere'], 'model-upload-spaces-acme--nowhere', /acme\/nowhere/)
  expect(await world.object('job', 'model-download-nfs-acme--nowhere'), 'hop 2 is not begun').toBeUndefined()
})

test('no such revision', async () => {
  const args = ['--model', open.id, '--revision', 'no-such-branch']
  await expectFailure('model-to-spaces', args, 'model-upload-spaces-acme--open', /no-such-branch/)
})

test('a gated model without a token, with one that has no access, and with one that has', async () => {
  const args = ['--model', gated.id]
  const job = 'model-upload-spaces-acme--gated'
  await expectFailure('model-to-spaces', args, job, /gated|token/)
  await world.putSecret('hf-token', { HF_TOKEN: TOKENS.visitor })
  await expectFailure('model-to-spaces', args, job, /gated/)
  // As `kubectl create secret --from-file` stores it.
  await world.putSecret('hf-token', { HF_TOKEN: `${TOKENS.member}\n` })
  const done = await world.run('model-to-spaces', args)
  expect(done, done.stderr).toMatchObject({ code: 0 })
  const told = world.hub.requests.filter(({ server, authorized }) => server === 'cdn' && authorized)
  expect(told, 'the token goes to the Hub only').toEqual([])
})

test('a token that the Hub does not know', async () => {
  await world.putSecret('hf-token', { HF_TOKEN: TOKENS.stranger })
  await expectFailure('model-to-spaces', ['--model', gated.id], 'model-upload-spaces-acme--gated', /token/)
})

test('no such bucket', async () => {
  const env = { SPACES_BUCKET: 'no-such-bucket' }
  await expectFailure('model-to-spaces', ['--model', open.id], 'model-upload-spaces-acme--open', /no-such-bucket/, env)
})

test('a key that may not write', async () => {
  world.spaces.rights.write = false
  try {
    await expectFailure('model-to-spaces', ['--model', open.id], 'model-upload-spaces-acme--open', /writ|denied/i)
  } finally {
    world.spaces.rights.write = true
  }
})

test('nothing in the bucket for hop 2', async () => {
  const said = await expectFailure(
    'model-to-nfs',
    ['--model', 'acme/unstaged'],
    'model-download-nfs-acme--unstaged',
    /acme\/unstaged/,
  )
  expect(said).toContain('model-to-spaces')
})

test('a Secret without its key', async () => {
  const keys = { AWS_ACCESS_KEY_ID: world.s3.accessKey, AWS_SECRET_ACCESS_KEY: world.s3.secretKey }
  await world.putSecret('spaces-credentials', { AWS_ACCESS_KEY_ID: keys.AWS_ACCESS_KEY_ID })
  try {
    const done = await world.run('model-to-spaces', ['--model', open.id])
    expect(done, done.stderr).toMatchObject({ code: 1 })
    expect(done.stderr).toContain('AWS_SECRET_ACCESS_KEY')
  } finally {
    await world.putSecret('spaces-credentials', keys)
  }
})
