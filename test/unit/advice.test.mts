import path from 'node:path'
import { expect, test } from 'vitest'
import { withSettingsNamed } from '../../scripts/lib/advice.mts'
import { type OptionName, options, scriptOptions } from '../../scripts/lib/options.mts'
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
  ['remove another (make clean-model)', ['--model', 'a/b', '--pvc', 'p'], 'remove another (make clean-model)'],
  ['make verify; with ARGS=--repair', ['--model', 'a/b'], 'make verify MODEL=a/b; with ARGS=--repair'],
])('under make %j with %j is told as %s', (next, args, told) => {
  const session = { settings: settings(...args), target: 'verify' }
  expect(withSettingsNamed(next, session)).toBe(told)
  expect(withSettingsNamed(told, session), 'once').toBe(told)
})

test.each([
  ['run make fix-pvc, then x', [], 'run DIR/fix-pvc.mts, then x'],
  [
    'run make fix-pvc, then x',
    ['--context', 'a b', '--pvc', 'p', '--model', 'a/b'],
    "run DIR/fix-pvc.mts --context $'a b' --pvc p, then x",
  ],
  ['make plan tells', ['--model', 'a/b'], 'DIR/setup-model.mts --plan --model a/b tells'],
  [
    'make verify',
    ['--model', 'a/b', '--include', '*.json', '--include', '*.txt', '--exclude', ''],
    "DIR/verify.mts --model a/b --include $'*.json' --include $'*.txt' --exclude $''",
  ],
  ['remove another (make clean-model)', ['--model', 'a/b', '--pvc', 'p'], 'remove another (DIR/clean.mts)'],
  [
    'run make model-to-nfs for it; with ARGS=--repair all of it',
    ['--model', 'a/b'],
    'run DIR/model-to-nfs.mts --model a/b for it; with --repair all of it',
  ],
  ['make room on the volume', ['--model', 'a/b'], 'make room on the volume'],
])('by the script %j with %j is told as %s', (next, args, told) => {
  const session = { settings: settings(...args), target: undefined }
  const said = withSettingsNamed(next, session)
  expect(said.replaceAll(path.resolve('scripts'), 'DIR')).toBe(told)
  expect(withSettingsNamed(said, session), 'once').toBe(said)
})

const given = {
  model: 'a/b',
  context: 'c',
  namespace: 'n',
  pv: 'v',
  pvc: 'w',
  revision: 'r',
  include: '*.json',
  exclude: '*.bin',
  bucket: 'bucket',
  endpoint: 'https://spaces.test',
  region: 'ams3',
  'hf-endpoint': 'https://hub.test',
}
const everything = Object.entries(given).flatMap(([flag, value]) => [`--${flag}`, value])

test.each(Object.entries(scriptOptions))('%s takes what its advice names', (script, taken) => {
  const told = withSettingsNamed(`make ${script}`, { settings: settings(...everything), target: undefined })
  const [file, ...args] = told.split(' ').map((word) => word.replace(/^\$'(.*)'$/, '$1'))
  expect(file).toBe(path.resolve(`scripts/${script}.mts`))
  const read = readSettings(script, taken, args, {})
  for (const [flag, value] of Object.entries(given)) {
    const option = Object.entries(options).find(([, { flag: own }]) => own === flag)?.[0] as keyof typeof read
    if (args.includes(`--${flag}`)) expect([read[option]].flat(), flag).toEqual([value])
    else expect(taken, 'left out').not.toContain(option)
  }
})
