import { readFile } from 'node:fs/promises'
import { expect, test, vi } from 'vitest'
import { $ } from 'zx'
import { options } from '../../scripts/lib/options.mts'

// Each test starts processes, and the machine may be busy with others.
vi.setConfig({ testTimeout: 120_000 })

const run = $({ quiet: true, nothrow: true, stdio: ['ignore', 'pipe', 'pipe'] })
const SCRIPTS = ['setup-model', 'model-to-spaces', 'model-to-nfs', 'fix-pvc', 'verify', 'clean', 'slug']

// `npx vitest run --project unit -u` writes the pinned texts anew; read what changed.
test.concurrent.for(SCRIPTS)('%s --help', async (script, { expect }) => {
  const { stdout, stderr, exitCode } = await run`scripts/${script}.mts --help`
  expect({ stderr, exitCode }).toEqual({ stderr: '', exitCode: 0 })
  expect(Math.max(...stdout.split('\n').map((line) => line.length)), 'columns').toBeLessThanOrEqual(80)
  await expect(stdout).toMatchFileSnapshot(`help/${script}.txt`)
})

test('make help lists every target', async () => {
  const { stdout } = await run`make --no-print-directory help`
  const makefile = await readFile('Makefile', 'utf8')
  const targets = [...makefile.matchAll(/^([a-z0-9-]+):(?!=)/gm)].map(([, target]) => target)
  expect(targets).toEqual(
    expect.arrayContaining(['help', 'setup-model', 'verify', 'slug', 'demo', 'test', 'e2e', 'bench']),
  )
  const [usage, ...lines] = stdout.trimEnd().split('\n')
  expect(usage).toMatch(/^make TARGET MODEL=/)
  expect(lines.map((line) => line.trim().split(' ')[0])).toEqual(targets)
  const listOf = (name: string) => new RegExp(`^${name} := (.*)$`, 'm').exec(makefile)?.[1] ?? ''
  const [, phony = ''] = /^\.PHONY: (.*)$/m.exec(makefile) ?? []
  const expanded = phony.replace('$(SCRIPTS)', listOf('SCRIPTS')).replace('$(OTHERS)', listOf('OTHERS'))
  expect(expanded.split(' ').sort()).toEqual(targets.sort())
})

const names = Object.values(options).flatMap((option) => ('environment' in option ? option.environment : []))

test('what is given to make reaches the scripts as it is, in the environment', async () => {
  const given = [...names.filter((name) => !['MODEL', 'KUBE_CONTEXT'].includes(name)), 'KUBECONFIG'].map(
    (name) => `${name}=$(shell echo expanded) $$x '"`,
  )
  const makefiles = ['--file=Makefile', '--file=-']
  const probe = $({ quiet: true, input: 'print-environment:\n\t@env\n' })
  const { stdout } = await probe`make --no-print-directory ${makefiles} print-environment ${given}`
  expect(stdout.split('\n')).toEqual(expect.arrayContaining(given))
})

test.each(['CONTEXT', 'KUBE_CONTEXT', 'NAMESPACE', 'SPACES_BUCKET'])(
  'make does not take %s= for the demo',
  async (name) => {
    const empty = `${name}=`
    for (const { exitCode, stderr } of [
      await run`make clean-model ${empty} ARGS=--yes`,
      await run`env ${empty} make clean-model ARGS=--yes`,
    ]) {
      expect(exitCode).toBe(2)
      expect(stderr).toMatch(/(KUBE_CONTEXT|NAMESPACE|SPACES_BUCKET) "" cannot be used: it is empty/)
    }
  },
)

test('nothing in a setting is expanded or executed by make', async () => {
  const dir = (await run`mktemp -d`).stdout.trim()
  const hostile = [...names, 'CONTEXT', 'ARGS', 'KUBECONFIG']
    .filter((name) => name !== 'MODEL')
    .map((name) => `${name}=$(shell touch ${dir}/${name})`)
  // ARGS are the user's shell words: only a target that does not use them is asked.
  const { exitCode, stderr } =
    await run`make help ${hostile} && env ${hostile} make help && env ${hostile} make slug ARGS= MODEL=gpt2`
  expect(exitCode, stderr).toBe(0)
  expect((await run`ls ${dir}; rmdir ${dir}`).stdout).toBe('')
})
