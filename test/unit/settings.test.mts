import { spawnSync } from 'node:child_process'
import { describe, expect, test, vi } from 'vitest'
import { Failure } from '../../scripts/lib/failure.mts'
import { wantsHelp } from '../../scripts/lib/flags.mts'
import { type Option, type OptionName, options } from '../../scripts/lib/options.mts'
import { type Environment, readSettings } from '../../scripts/lib/settings.mts'
import { nearest } from '../../scripts/lib/spelling.mts'

// Some tests start processes, and the machine may be busy with others.
vi.setConfig({ testTimeout: 60_000 })

const ALL = Object.keys(options) as OptionName[]

function read(args: string[], env: Environment = {}, names = ALL) {
  return readSettings('setup-model', names, args, env)
}

function refusal(args: string[], env: Environment = {}, names = ALL): Failure {
  try {
    read(args, env, names)
  } catch (error) {
    if (error instanceof Failure) return error
    throw error
  }
  throw new Error(`accepted: ${args.join(' ')}`)
}

test('defaults are those of the spec', () => {
  expect(read([])).toEqual({
    model: 'meta-llama/Llama-3.1-8B-Instruct',
    revision: 'main',
    include: [],
    exclude: undefined,
    context: 'do-nyc2-gtc-demo',
    namespace: 'dynamo-workload',
    timeout: 1800,
    grace: 120,
    bucket: 'do-gtc2026-doks-demo',
    endpoint: 'https://atl1.digitaloceanspaces.com',
    region: 'atl1',
    hfEndpoint: 'https://huggingface.co',
    pv: 'model-nfs-pv',
    pvc: 'model-nfs-pvc',
    image: 'python:3.11-slim',
    memory: undefined,
    buffer: '256Mi',
    pipIndexUrl: undefined,
    level: 'sizes',
    json: false,
    quiet: false,
    spaces: false,
    nfs: false,
    yes: false,
    repair: false,
    restart: false,
    dryRun: false,
    plan: false,
  })
})

describe('a value', () => {
  test('of a flag wins over the environment, the environment over the default', () => {
    const env = { MODEL: 'a/env', MODEL_REVISION: 'env' }
    expect(read(['--model', 'a/flag'], env)).toMatchObject({ model: 'a/flag', revision: 'env', region: 'atl1' })
  })

  test.each([
    [['--revision', '010'], { revision: '010' }],
    [['--revision=1e3'], { revision: '1e3' }],
    [['--model', '1e5'], { model: '1e5' }],
    [['--revision', 'refs/pr/1'], { revision: 'refs/pr/1' }],
    [['--revision', 'v1.0-a.b_c'], { revision: 'v1.0-a.b_c' }],
    [['--buffer', '32Mi'], { buffer: '32Mi' }],
    [['--timeout', '600'], { timeout: 600 }],
    [['--restart'], { restart: true }],
    [['--spaces', '--repair'], { spaces: true, repair: true }],
    [['--nfs', '--yes'], { nfs: true, yes: true }],
    [['--include', '*.json', '--include=*.safetensors'], { include: ['*.json', '*.safetensors'] }],
    [['--exclude', ''], { exclude: [] }],
    [['--exclude='], { exclude: [] }],
    [['--exclude', 'a/*'], { exclude: ['a/*'] }],
    [['--context', 'arn:aws:eks:x:1:cluster/y z'], { context: 'arn:aws:eks:x:1:cluster/y z' }],
  ])('%j stays as it was typed', (args, settings) => expect(read(args)).toMatchObject(settings))

  test.each([
    [{ MODEL_EXCLUDE: '' }, { exclude: [] }],
    [{ MODEL_EXCLUDE: ' a/*  b ' }, { exclude: ['a/*', 'b'] }],
    [{ MODEL_INCLUDE: '' }, { include: [] }],
    [{ MODEL_INCLUDE: '*.json *.txt' }, { include: ['*.json', '*.txt'] }],
    [
      { MOVER_MEMORY: '3Gi', MOVER_PIP_INDEX_URL: 'http://mirror/simple' },
      { memory: '3Gi', pipIndexUrl: 'http://mirror/simple' },
    ],
  ])('of the environment %j', (env, settings) => expect(read([], env)).toMatchObject(settings))

  test('of an option that the script has no use for is not looked at', () => {
    expect(read([], { MODEL: 'a b', NAMESPACE: 'x' }, ['namespace'])).toMatchObject({ namespace: 'x' })
  })
})

test('what cannot be undone has no default', () => {
  const read = (args: string[], env = {}) => readSettings('clean', ['model'], args, env, ['model']).model
  expect(() => read([])).toThrow('--model ID is needed, or MODEL')
  expect(read([], { MODEL: 'a/b' })).toBe('a/b')
})

const make = (...args: string[]) =>
  spawnSync('make', ['--dry-run', 'slug', ...args], { encoding: 'utf8', env: { PATH: process.env.PATH ?? '' } })

test('make knows every setting', () => {
  const names = Object.values<Option>(options).flatMap(({ environment }) => environment ?? [])
  const known = make(...names.map((name) => `${name}=x`), 'CONTEXT=x', 'ARGS=x')
  expect(known.stderr).toBe('')
  expect(known.status).toBe(0)
})

test.each([
  [['MODLE=gpt2'], 'MODLE: no such setting; did you mean MODEL? There are MODEL CONTEXT '],
  [['model=gpt2'], 'model: no such setting; did you mean MODEL? There'],
  [['REVISION=v2', 'MODEL=gpt2'], 'REVISION: no such setting; did you mean MODEL_REVISION? There'],
  [['CONTXT=x'], 'CONTXT: no such setting; did you mean CONTEXT? There'],
  [['XYZZY=1'], 'XYZZY: no such setting; there are MODEL CONTEXT '],
  // No shell reads a name.
  [["x';echo;'=1"], "x';echo;': no such setting; there are MODEL "],
])('make refuses %j by name', (args, words) => {
  const { status, stderr } = make(...args)
  expect(status, stderr).toBe(2)
  expect(stderr).toContain(words)
})

test.each([[['setup-model', 'gpt2']], [['plan', 'org/name']], [['gpt2', 'slug']]])(
  'make refuses %j: a model is no target',
  (args) => {
    const { status, stdout, stderr } = make(...args)
    expect(status, stderr).toBe(2)
    expect(stdout).toBe('')
    expect(stderr).toContain('no such target; a model is named by MODEL=')
  },
)

test('two wrong names are both made good', () => {
  expect(make('MODLE=gpt2', 'NAMESPCE=x').stderr).toMatch(/did you mean (MODEL and NAMESPACE|NAMESPACE and MODEL)\?/)
})

describe('refused with exit code 2:', () => {
  test.each([
    [['--modle', 'x'], '--modle is no option of setup-model; did you mean --model?'],
    [['--model', 'x', '--tiemout=3'], 'did you mean --timeout?'],
    [['--xyzzy'], '--xyzzy is no option of setup-model'],
    [['-m', 'x'], '-m is no option'],
    [['--no-model'], '--no-model is no option'],
    [['--no-restart'], '--no-restart is no option'],
    [['--model.x', 'y'], '--model.x is no option'],
    [['gpt2'], '"gpt2" is not expected'],
    [['--', 'gpt2'], '"gpt2" is not expected'],
    [['--model'], '--model needs a value'],
    [['--model', '--restart'], '--model needs a value'],
    [['--exclude', '--restart'], '--exclude needs a value'],
    [['--model', 'a', '--model', 'b'], '--model is given 2 times'],
    [['--restart=no'], '--restart takes no value'],
    [['--model', ''], '--model "" cannot be used'],
    [['--revision='], '--revision "" cannot be used'],
    [['--timeout', '0'], '--timeout "0"'],
    [['--timeout', '30m'], '--timeout "30m"'],
    [['--endpoint', 'atl1.example'], '--endpoint "atl1.example" cannot be used: it is no URL'],
    [['--endpoint', 'atl1.example/x'], '--endpoint cannot be used: it is no URL'],
    [
      ['--model', 'https://huggingface.co/gpt2'],
      '"https://huggingface.co/gpt2" cannot be used: it is the address of a',
    ],
    [['--buffer', '1'], '--buffer "1" cannot be used: the smallest'],
    [['--buffer', '31Mi'], 'the smallest that the mover can work with is 32Mi'],
    [['--buffer', '4 M'], 'written like 256Mi'],
    [['--revision', '../x'], '--revision "../x" cannot be used'],
    [['--revision', 'a/../x'], 'no name of a branch'],
    [['--revision', 'a/.x'], 'no name of a branch'],
    [['--revision', 'a//x'], 'no name of a branch'],
    [['--revision', 'x/'], 'no name of a branch'],
    [['--revision', 'x.lock'], 'no name of a branch'],
    [['--revision', 'x@{1}'], 'no name of a branch'],
    [['--endpoint', 'https://x/?token=t'], '--endpoint cannot be used: it holds a ?'],
    [['--endpoint', 'ftp://x'], 'neither http:// nor https://'],
    [['--pip-index-url', 'https://me:secret@mirror/simple'], 'credentials'],
    [['--namespace', 'Prod'], '--namespace "Prod"'],
    [['--pvc', 'a_b'], '--pvc "a_b"'],
    [['--bucket', 'B'], '--bucket "B"'],
    [['--memory', '3 GB'], '--memory "3 GB"'],
    [['--level', 'all'], '--level "all"'],
    [['--include', 'a b'], '--include "a b"'],
    [['--image', 'x y'], '--image "x y"'],
    [['--context', 'x\ny'], '--context "x\\ny"'],
  ])('%j', (args, fact) => {
    const { message, exitCode, next } = refusal(args)
    expect({ message, exitCode }).toEqual({ message: expect.stringContaining(fact), exitCode: 2 })
    expect(next).toContain('scripts/setup-model.mts --help')
  })

  test.each([
    'https://me:secret@mirror/simple',
    'ftp://me:se@cret@x',
    'https://me:secret @x',
    'https://me:secr/et@x/',
    'https://me:secret',
    'me:secret@mirror',
    'https://mirror/simple?key=secret',
    'https://mirror/simple#secret',
  ])('%s, without showing the secret', (url) => {
    for (const args of [['--pip-index-url', url], [`--endpoint=${url}`]])
      expect(refusal(args).message).not.toMatch(/se@?cr\/?et/)
    expect(refusal([], { HF_ENDPOINT: url }).message).not.toMatch(/se@?cr\/?et/)
  })

  test.each([['https://me:secr/et@x/'], ['--model', 'https://me:secr/et@x/'], ['--image=https://me:secr et@x/']])(
    'a URL that went astray, without its secret: %s %s',
    (...args) => expect(refusal(args).message).not.toMatch(/secr/),
  )

  test.each(Object.values(options).flatMap((option) => ('environment' in option ? [option] : [])))(
    'an empty $environment, unless globs stand there',
    (option) => {
      const env = { [option.environment]: '' }
      if ('repeatable' in option) expect(() => read([], env)).not.toThrow()
      else expect(refusal([], env).message).toContain(`${option.environment} "" cannot be used: it is empty`)
    },
  )

  test('an option of other scripts, as such', () => {
    expect(refusal(['--revision', 'x'], {}, ['model']).message).toContain('--revision is an option of other scripts')
  })

  test('all values that cannot be used, together', () => {
    const { message } = refusal(['--timeout', 'x', '--model', 'a b'], { NAMESPACE: 'X' })
    expect(message.split('\n')).toHaveLength(3)
  })
})

test.each([
  [['--help'], true],
  [['--model', 'x', '-h'], true],
  [['--nonsense', '--help'], true],
  [['--', '--help'], false],
  [[], false],
])('help asked for by %j: %s', (args, wanted) => expect(wantsHelp(args)).toBe(wanted))

test.each([
  ['modle', 'model'],
  ['time-out', 'timeout'],
  ['hf-endpiont', 'hf-endpoint'],
  ['xyzzy', undefined],
  ['', undefined],
])('nearest to %s is %s', (word, near) => expect(nearest(word, ['model', 'timeout', 'hf-endpoint', 'pv'])).toBe(near))
