import { expect, test } from 'vitest'
import { withSettingsNamed } from '../../scripts/lib/advice.mts'
import { type OptionName, options } from '../../scripts/lib/options.mts'
import { readSettings } from '../../scripts/lib/settings.mts'

const settings = (...args: string[]) => readSettings('test', Object.keys(options) as OptionName[], args, {})

test.each([
  ['run make fix-pvc', [], 'run make fix-pvc'],
  [
    'run make fix-pvc, then x',
    ['--context', 'a b', '--pvc', 'p'],
    "run make fix-pvc CONTEXT=$'a b' MODEL_PVC=p, then x",
  ],
  ['run make fix-pvc', ['--model', 'a/b', '--bucket', 'bucket'], 'run make fix-pvc'],
  ['run make model-to-nfs for it', ['--model', 'a/b'], 'run make model-to-nfs MODEL=a/b for it'],
  [
    'make verify',
    [
      '--model',
      'a/b',
      '--namespace',
      'n',
      '--include',
      '*.json',
      '--include',
      '*.txt',
      '--exclude',
      '',
      '--buffer',
      '64Mi',
    ],
    "make verify MODEL=a/b NAMESPACE=n MODEL_INCLUDE=$'*.json *.txt' MODEL_EXCLUDE=$'' MOVER_BUFFER=64Mi",
  ],
  ['make verify MODEL=x', ['--model', 'a/b'], 'make verify MODEL=x'],
  ['make room on the volume', ['--model', 'a/b'], 'make room on the volume'],
  [
    'a timeout is no place: make plan',
    ['--model', 'a/b', '--timeout', '5'],
    'a timeout is no place: make plan MODEL=a/b',
  ],
])('%j with %j is told as %s', (next, args, told) => {
  expect(withSettingsNamed(next, settings(...args))).toBe(told)
  expect(withSettingsNamed(told, settings(...args)), 'once').toBe(told)
})
