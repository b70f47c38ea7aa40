import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { Running } from '../local/command.mts'

// What the README promises to whoever reads the documents of --json, held against each script, however it ends.

// Each test starts processes, and the machine may be busy with others.
vi.setConfig({ testTimeout: 120_000 })

const readme = await readFile('README.md', 'utf8')
const [, table = ''] = /^\| key \| \|\n\|---\|---\|\n((?:\|.*\n)+)/m.exec(readme) ?? []
const rows = [...table.matchAll(/^\| (.+?) \| (.*) \|$/gm)].map(([, names = '', meaning = '']) => ({
  keys: [...names.matchAll(/`(\w+)`/g)].map(([, key = '']) => key),
  meaning,
}))
const common = rows.filter(({ meaning }) => !meaning.startsWith('only of')).flatMap(({ keys }) => keys)
const special = rows.filter(({ meaning }) => meaning.startsWith('only of')).flatMap(({ keys }) => keys)
const states = [...(rows.find(({ keys }) => keys.includes('state'))?.meaning ?? '').matchAll(/`([a-z-]+)`/g)]

const TRANSFERS = ['setup-model', 'model-to-spaces', 'model-to-nfs', 'verify']
const MODEL = ['--model', 'acme/told']

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(path.join(os.tmpdir(), 'json-'))
  // Port 1 of this machine: refused at once.
  const cluster = { name: 'c', cluster: { server: 'http://127.0.0.1:1' } }
  const context = { name: 'away', context: { cluster: 'c', user: '' } }
  const config = { apiVersion: 'v1', kind: 'Config', clusters: [cluster], contexts: [context] }
  await writeFile(path.join(dir, 'kubeconfig'), JSON.stringify(config))
})
afterAll(() => rm(dir, { recursive: true }))

/** Runs a script with --json where no cluster answers; gives the one document that is all of its stdout. */
async function documentOf(script: string, args: string[]) {
  const env = {
    PATH: process.env.PATH ?? '',
    HOME: dir,
    KUBECONFIG: path.join(dir, 'kubeconfig'),
    KUBE_CONTEXT: 'away',
  }
  const running = new Running(path.resolve(`scripts/${script}.mts`), [...args, '--json'], { env })
  const { code, stdout, stderr } = await running.outcome
  return { code, stderr, document: JSON.parse(stdout) as Record<string, unknown> }
}

test('the README lists keys and states', () => {
  expect(common).toEqual(expect.arrayContaining(['script', 'state', 'cause', 'stages']))
  expect(special).toEqual(expect.arrayContaining(['plan', 'slug', 'checked']))
  expect(states.map(([, state]) => state)).toContain('usage')
})

describe('--json has one document with the common keys and no others', () => {
  test.concurrent.for([...TRANSFERS, 'fix-pvc', 'clean', 'slug'])('%s, used wrongly', async (script, { expect }) => {
    const { code, document } = await documentOf(script, ['--no-such-flag'])
    expect(code).toBe(2)
    expect(Object.keys(document)).toEqual(common)
    const nothing = { model: null, stage: null, commit: null, bytes: null, seconds: 0, stages: [] }
    expect(document).toMatchObject({ script, state: 'usage', cause: 'usage', ...nothing })
    expect([document.detail, document.next]).toEqual([
      expect.stringMatching(/no-such-flag/),
      expect.stringMatching(/./),
    ])
  })

  test.concurrent.for<[string, string[]]>([
    ...TRANSFERS.map((script): [string, string[]] => [script, MODEL]),
    ['setup-model', [...MODEL, '--plan']],
    ['fix-pvc', []],
    ['clean', [...MODEL, '--yes']],
  ])('%s %j, without a cluster', async ([script, args], { expect }) => {
    const { code, stderr, document } = await documentOf(script, args)
    expect(code, stderr).toBe(1)
    expect(Object.keys(document)).toEqual(common)
    const model = args.includes('--model') ? 'acme/told' : null
    expect(document).toMatchObject({ script, model, state: 'failed', stage: 'preflight', commit: null, bytes: null })
    expect(document.stages).toEqual([expect.objectContaining({ stage: 'preflight', state: 'failed' })])
    expect(document).toMatchObject({ cause: expect.stringMatching(/./), detail: expect.stringMatching(/./) })
    expect(stderr, 'what people are told').toContain(document.detail)
  })
})

describe('--json has one document with the common keys and those of', () => {
  test.concurrent.for([...TRANSFERS, 'fix-pvc'])('%s --dry-run', async (script, { expect }) => {
    const { code, stderr, document } = await documentOf(script, [...(script === 'fix-pvc' ? [] : MODEL), '--dry-run'])
    expect(code, stderr).toBe(0)
    expect(Object.keys(document).sort()).toEqual([...common, 'manifests', 'checked'].sort())
    expect(document).toMatchObject({ script, state: 'dry-run', checked: false, cause: null, detail: null, next: null })
  })

  test('slug', async () => {
    const { code, document } = await documentOf('slug', MODEL)
    expect(code).toBe(0)
    expect(Object.keys(document)).toEqual([...common, 'slug'])
    expect(document).toMatchObject({ script: 'slug', model: 'acme/told', state: 'done', slug: 'acme--told' })
  })
})
