import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { expect, test } from 'vitest'
import type { Script } from '../../scripts/lib/help.mts'
import { commandOf } from '../../scripts/lib/main.mts'
import { type Environment, readSettings } from '../../scripts/lib/settings.mts'

const script: Script = {
  name: 'model-to-nfs',
  subject: ({ model }) => model,
  purpose: '',
  options: ['model', 'restart', 'exclude', 'context', 'namespace', 'memory'],
  examples: [],
  jobs: 'go on',
}
const DEFAULT = '--model meta-llama/Llama-3.1-8B-Instruct'

test.each<[string[], Environment, string]>([
  [[], {}, DEFAULT],
  [[], { MODEL: 'a/env' }, '--model a/env'],
  [['--model', 'a/b'], { MODEL: 'a/env' }, '--model a/b'],
  [['--model=a/b', '--restart'], {}, '--model=a/b'],
  [['--restart', '--exclude', "it's"], {}, `--exclude $'it\\'s' ${DEFAULT}`],
  [
    ['--namespace', 'mine'],
    { MODEL: 'a/env', KUBE_CONTEXT: 'stag ing', NAMESPACE: 'other', MOVER_MEMORY: '4Gi' },
    "--namespace mine --model a/env --context $'stag ing' --memory 4Gi",
  ],
  // As make passes it on: it may be another shell's default.
  [[], { MODEL: 'a/env', KUBE_CONTEXT: 'do-nyc2-gtc-demo' }, '--model a/env --context do-nyc2-gtc-demo'],
  [[], { MODEL: 'a/env', MODEL_EXCLUDE: '*.bin  *.h5' }, "--model a/env --exclude $'*.bin' --exclude $'*.h5'"],
  [[], { MODEL: 'a/env', MODEL_EXCLUDE: '' }, "--model a/env --exclude $''"],
  [[], { MODEL: 'a/env', SPACES_BUCKET: 'of-no-use-here', HF_TOKEN: 'secret' }, '--model a/env'],
])('a run with %j and %j is come back to by %s', (args, env, command) => {
  const settings = readSettings(script.name, script.options, args, env)
  const again = commandOf(script, settings, args, env)
  expect(again).toBe(`${path.resolve('scripts/model-to-nfs.mts')} ${command}`)
})

test.each<[string[], Environment, string]>([
  [[], { MODEL: 'a/env' }, 'MODEL=a/env'],
  [[], { MODEL: 'a/env', KUBE_CONTEXT: 'demo', MODEL_EXCLUDE: '' }, "MODEL=a/env MODEL_EXCLUDE=$'' CONTEXT=demo"],
  [['--restart'], { MODEL: 'a/env' }, 'MODEL=a/env'],
  [['--namespace', 'mine'], { MODEL: 'a/env', NAMESPACE: 'other' }, "MODEL=a/env ARGS='--namespace mine'"],
  [['--json'], { MODEL: 'a/env' }, 'MODEL=a/env ARGS=--json'],
  [['--exclude', ''], { MODEL: 'a/env' }, "MODEL=a/env ARGS=$'--exclude \\'\\''"],
])('a run of make with %j and %j is come back to by make with %s', (args, env, words) => {
  const settings = readSettings(script.name, script.options, args, env)
  const again = commandOf(script, settings, args, { ...env, MAKE_TARGET: 'model-to-nfs' })
  expect(again).toBe(`make model-to-nfs ${words}`)
  expect(commandOf(script, settings, args, { ...env, MAKE_TARGET: 'of-another-makefile' })).toMatch(/^\//)
})

test('what make is given, in words for its shell too, reaches the script as it was', () => {
  const args = ['--context', "it's a $b\\", '--exclude', '', '--exclude', '*.bin']
  const settings = readSettings(script.name, script.options, args, { MODEL: 'a/b' })
  const again = commandOf(script, settings, args, { MODEL: 'a/b', MAKE_TARGET: 'model-to-nfs' })
  const probe = `make() { for one; do case $one in ARGS=*) sh -c "printf '<%s>' \${one#ARGS=}";; esac; done; }; ${again}`
  expect(spawnSync('bash', ['-c', probe], { encoding: 'utf8' }).stdout).toBe(args.map((arg) => `<${arg}>`).join(''))
})

test.each([
  [process.cwd(), 'make plan ARGS=--help'],
  ['/tmp', `${process.cwd()}/scripts/setup-model.mts --help`],
])('make -C typed in %s says where the options are listed: %s', { timeout: 60_000 }, (cwd, help) => {
  const env = { PATH: process.env.PATH ?? '', PWD: cwd }
  const { stderr } = spawnSync('make', ['-C', process.cwd(), 'plan', 'MODEL=a b'], { cwd, encoding: 'utf8', env })
  expect(stderr).toMatch(new RegExp(`^ +${help} lists the options$`, 'm'))
})
