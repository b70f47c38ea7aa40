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
  expect(
    stdout
      .trim()
      .split('\n')
      .map((line) => line.trim().split(' ')[0]),
  ).toEqual(targets)
  const [, scripts = ''] = /^SCRIPTS := (.*)$/m.exec(makefile) ?? []
  const [, phony = ''] = /^\.PHONY: (.*)$/m.exec(makefile.replaceAll('$(SCRIPTS)', scripts)) ?? []
  expect(phony.split(' ').sort()).toEqual(targets.sort())
})

test('make takes every setting as it is: nothing in one is expanded or executed', async () => {
  const makefile = await readFile('Makefile', 'utf8')
  const names = Object.values(options).flatMap((option) => ('environment' in option ? option.environment : []))
  for (const name of names) expect(makefile, name).toMatch(new RegExp(`\\b${name}\\b`))
  const dir = (await run`mktemp -d`).stdout.trim()
  const hostile = [...names, 'CONTEXT', 'ARGS']
    .filter((name) => name !== 'MODEL')
    .map((name) => `${name}=$(shell touch ${dir}/${name})`)
  // ARGS are the user's shell words: only a target that does not use them is asked.
  const { exitCode, stderr } =
    await run`make help ${hostile} && env ${hostile} make help && env ${hostile} make slug ARGS= MODEL=gpt2`
  expect(exitCode, stderr).toBe(0)
  expect((await run`ls ${dir}; rmdir ${dir}`).stdout).toBe('')
})
