import { execFileSync } from 'node:child_process'
import path from 'node:path'
import { beforeAll, describe, expect } from 'vitest'
import { seededBytes } from '../local/model.mts'
import { documentOf, evidenceOf, test } from './mover.mts'

const root = path.resolve(import.meta.dirname, '../..')
const model = { id: 'acme/asked', files: [{ path: 'config.json', body: seededBytes('config', 100) }] }

describe.concurrent('settings that are none', () => {
  const models = [
    '',
    '../x',
    '/x',
    'a/b/c',
    'a/',
    '-a',
    'a.',
    'a..b',
    'a--b',
    'x.git',
    'a/x y',
    'a\nb',
    'é',
    'x'.repeat(97),
  ]
  test.for<[string, string]>([
    ...models.map((id): [string, string] => ['MODEL', id]),
    ['BUFFER', '1Mi'],
    ['BUFFER', '-64Mi'],
    ['BUFFER', '64 Mi'],
    ['BUFFER', 'lots'],
    ['LEVEL', 'all'],
    ['ENDPOINT', 'atl1.example'],
    ['ENDPOINT', 'https://'],
    ['HF_ENDPOINT', 'ftp://hub.example'],
  ])('%s=%j', async ([name, value], { newRig }) => {
    const rig = await newRig({ models: [model] })
    const { detail } = await rig.mustFail('verify', 64, 'bad-settings', { env: { [name]: value } })
    expect(detail).toContain(name)
  })
})

test('an error that nobody foresaw is told without the secrets in it', async ({ newRig }) => {
  const rig = await newRig({ models: [model] })
  const patch = `
import spaces
def fails(*args):
    raise RuntimeError("a header was Bearer hf_hidden spaces-secret-key")
spaces.Spaces.listing = fails`
  const end = await rig.runMover('upload', { patch, env: { HF_TOKEN: 'hf_hidden' } })
  expect(end, end.log).toMatchObject({ code: 1, message: { cause: 'internal' } })
  expect(end.log).toContain('Traceback')
  expect(end.message?.detail).toContain('a header was Bearer ***')
})

describe('a document that claims to be evidence', () => {
  const good = evidenceOf(model)
  const [file] = good.files as [(typeof good.files)[number]]
  const paths = [
    '',
    '/etc/passwd',
    '..',
    '../x',
    'a/../../x',
    'a//b',
    'a/',
    './a',
    'a\\b',
    'a\u0000b',
    'a\nb',
    '\ud800',
    '.upload-complete',
    '.download-journal',
    'x.01234567.partial',
    'x'.repeat(250),
  ]
  const rows: [string, string][] = [
    ['', ''],
    ['text', 'done'],
    ['a list', '[]'],
    ['null', 'null'],
    ['an empty object', '{}'],
    ['half', documentOf(good).slice(0, -40)],
    ['deep nesting', '['.repeat(100_000)],
    ['NaN', documentOf(good).replace(/"size": \d+/, '"size": NaN')],
    ['another schema', JSON.stringify({ ...good, schema: 2 })],
    ['no schema', JSON.stringify({ ...good, schema: undefined })],
    ['no files', JSON.stringify({ ...good, files: [] })],
    ['files that are none', JSON.stringify({ ...good, files: [1, 'a', null] })],
    ['files as an object', JSON.stringify({ ...good, files: { a: file } })],
    ['no model', JSON.stringify({ ...good, model: undefined })],
    ['half a commit', JSON.stringify({ ...good, commit: 'abc' })],
    ['an upper-case hash', JSON.stringify({ ...good, files: [{ ...file, sha256: file.sha256.toUpperCase() }] })],
    ['no hash', JSON.stringify({ ...good, files: [{ ...file, sha256: undefined }] })],
    ['a negative size', JSON.stringify({ ...good, files: [{ ...file, size: -1 }] })],
    ['a fraction', JSON.stringify({ ...good, files: [{ ...file, size: 0.5 }] })],
    ['true as a size', JSON.stringify({ ...good, files: [{ ...file, size: true }] })],
    ['a name twice', JSON.stringify({ ...good, files: [file, file] })],
    ['a file that is also a folder', JSON.stringify({ ...good, files: [file, { ...file, path: `${file.path}/x` }] })],
    ['globs that are none', JSON.stringify({ ...good, include: [7] })],
    ...paths.map((name): [string, string] => [
      `path ${JSON.stringify(name)}`,
      JSON.stringify({ ...good, files: [{ ...file, path: name }] }),
    ]),
  ]
  let verdicts: string[]

  beforeAll(() => {
    const program = `
import json, sys
sys.path.insert(0, "k8s/mover")
from evidence import NotEvidence, parse_evidence
def verdict(body):
    try:
        parse_evidence(body.encode())
        return "evidence"
    except NotEvidence as error:
        return f"none: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
print(json.dumps([verdict(body) for body in json.load(sys.stdin)]))`
    const input = JSON.stringify([documentOf(good), ...rows.map(([, body]) => body)])
    const said = execFileSync(path.join(root, '.venv/bin/python'), ['-c', program], {
      cwd: root,
      input,
      encoding: 'utf8',
    })
    verdicts = JSON.parse(said)
  })

  test('a true one', () => expect(verdicts[0]).toBe('evidence'))
  test.for(rows.map(([label], index): [string, number] => [label, index + 1]))('%s', ([, index]) => {
    expect(verdicts[index]).toMatch(/^none: ./)
  })
})
