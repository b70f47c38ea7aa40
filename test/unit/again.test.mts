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
