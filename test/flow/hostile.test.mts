import { chmod, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createWorld, type World } from '../local/world.mts'

let world: World
let shims: string
let calls: string
/** The commands run here, so that a file which a payload makes is seen. */
let work: string

const TOOLS = ['kubectl', 'envsubst', 'touch', 'rm']
const NAMES = [
  'a b',
  '../x/y',
  'x/y; rm -rf /nowhere',
  'x/$(touch f)',
  'x/`touch f`',
  'x/y/z',
  '',
  "x'y",
  'x"y',
  'a--b',
  '-x/y',
  'x/y.git',
  'x\ny',
]

beforeAll(async () => {
  world = await createWorld({ volume: false })
  shims = path.join(world.dir, 'shims')
  work = path.join(world.dir, 'work')
  calls = path.join(world.dir, 'calls')
  await Promise.all([mkdir(shims), mkdir(work)])
  for (const tool of TOOLS) {
    const file = path.join(shims, tool)
    await writeFile(file, `#!/bin/sh\necho "${tool} $*" >>'${calls}'\nexit 99\n`)
    await chmod(file, 0o755)
  }
})
afterAll(() => world?.close())

async function expectNothingCalled(): Promise<void> {
  const called = await readFile(calls, 'utf8').catch((error) => (error.code === 'ENOENT' ? '' : Promise.reject(error)))
  expect(called).toBe('')
  expect(await readdir(work)).toEqual([])
}

function environment(more: Record<string, string> = {}): Record<string, string> {
  return { PATH: `${shims}:${world.env.PATH}`, ...more }
}

async function refuse(script: string, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const done = await world.run(script, [`--model=${name}`], { env: environment(), cwd: work })
    expect(done, `--model=${JSON.stringify(name)}: ${done.stderr}`).toMatchObject({ code: 2, stdout: '' })
    expect(done.stderr.trim(), 'says why').not.toBe('')
  }
  await expectNothingCalled()
}

test('a flag that is no model id is refused before any call', () => refuse('setup-model', NAMES))

for (const script of ['model-to-spaces', 'model-to-nfs', 'verify']) {
  test(`${script} refuses as setup-model does`, () => refuse(script, ['x/$(touch f)', '../x/y']))
}

test('the environment is checked like a flag', async () => {
  for (const name of NAMES) {
    const done = await world.run('setup-model', [], { env: environment({ MODEL: name }), cwd: work })
    expect(done, `MODEL=${JSON.stringify(name)}: ${done.stderr}`).toMatchObject({ code: 2, stdout: '' })
  }
  await expectNothingCalled()
})

for (const [how, args, env] of [
  ['variable on the command line', (name: string) => [`MODEL=${name}`], () => ({})],
  ['environment', () => [], (name: string) => ({ MODEL: name })],
] as const) {
  test(`make takes a hostile MODEL from its ${how} no further than the script`, async () => {
    const makefile = path.resolve('Makefile')
    for (const name of NAMES) {
      const done = await world.run('make', ['-C', path.dirname(makefile), 'setup-model', ...args(name)], {
        env: environment(env(name)),
        cwd: work,
      })
      expect(done, `${JSON.stringify(name)}: ${done.stdout}${done.stderr}`).toMatchObject({ code: 2 })
    }
    await expectNothingCalled()
    expect(await readdir(path.dirname(makefile))).not.toContain('f')
  })
}
