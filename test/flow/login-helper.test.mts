import { existsSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createWorld, type World } from '../local/world.mts'

let world: World
let env: Record<string, string>
/** Written by each helper that begins. */
let helpers: string

beforeAll(async () => {
  world = await createWorld()
  helpers = path.join(world.dir, 'helpers')
  // As of a VPN that dropped, or a login page that nobody sees; deaf to what ends kubectl.
  const args = ['-c', `echo begun >> ${helpers}; trap "" TERM HUP INT; sleep 300; :`]
  const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: 'sh', args, interactiveMode: 'Never' }
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    contexts: [{ name: world.context, context: { cluster: 'c', user: 'u' } }],
    clusters: [{ name: 'c', cluster: { server: 'https://127.0.0.1:1' } }],
    users: [{ name: 'u', user: { exec } }],
  }
  const kubeconfig = path.join(world.dir, 'helper-kubeconfig')
  await writeFile(kubeconfig, JSON.stringify(config))
  env = { KUBECONFIG: kubeconfig }
})
afterAll(() => world?.close())

const upload = () => world.start('model-to-spaces', ['--model', 'acme/any'], { env })

test('a login helper of the kubeconfig that never answers: said after half a minute, and nothing survives', async () => {
  const waiting = upload()
  const done = await waiting.outcome
  expect(done, done.stderr).toMatchObject({ code: 1 })
  expect(done.stderr).toMatch(/^✗ preflight .*does not answer: kubectl took longer than 30 s; a login helper/m)
  expect(done.seconds).toBeLessThan(60)
  expect(await waiting.survivors()).toEqual([])
})

test('it does not keep us from ending at once when we are told to', async () => {
  await rm(helpers, { force: true })
  const waiting = upload()
  await expect.poll(() => existsSync(helpers), { timeout: 60_000 }).toBe(true)
  waiting.signal('SIGTERM')
  const done = await waiting.outcome
  expect(done, done.stderr).toMatchObject({ code: 130 })
  expect(done.stderr).toMatch(/^✗ preflight +interrupted by SIGTERM\n +to go on: \S*model-to-spaces\.mts/m)
  expect(await waiting.survivors()).toEqual([])
})
