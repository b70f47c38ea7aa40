import { expect, test } from 'vitest'
import type { Script } from '../../scripts/lib/help.mts'
import { commandOf } from '../../scripts/lib/main.mts'
import { readSettings } from '../../scripts/lib/settings.mts'

const script: Script = {
  name: 'model-to-nfs',
  purpose: '',
  options: ['model', 'restart', 'exclude'],
  examples: [],
  jobs: 'go on',
}

test.each([
  [[], 'scripts/model-to-nfs.mts --model a/env'],
  [['--model', 'a/b'], 'scripts/model-to-nfs.mts --model a/b'],
  [['--model=a/b', '--restart'], 'scripts/model-to-nfs.mts --model=a/b'],
  [['--restart', '--exclude', "it's"], "scripts/model-to-nfs.mts --model a/env --exclude $'it\\'s'"],
])('a run with %j is come back to by %s', (args, command) => {
  const settings = readSettings(script.name, script.options, args, { MODEL: 'a/env' })
  expect(commandOf(script, settings, args)).toBe(command)
})
