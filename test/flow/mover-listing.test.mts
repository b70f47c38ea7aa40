import { describe, expect } from 'vitest'
import { type Act, answer, editJson } from '../local/faults.mts'
import type { HubRepo, HubRequest } from '../local/hub.mts'
import { seededBytes, smallModel } from '../local/model.mts'
import { isChange, type SpacesRequest } from '../local/spaces.mts'
import { QUICK, type Rig, test } from './mover.mts'

const text = (path: string, body = path) => ({ path, body: Buffer.from(body) })
const model = (...paths: string[]): HubRepo => ({ id: 'acme/listed', files: paths.map((path) => text(path)) })
const isTree = ({ path }: HubRequest) => path.includes('/tree/')

/** Demands that nothing was changed in the bucket. */
function expectUntouched(rig: Rig): void {
  expect(rig.spaces.requests.filter(isChange)).toEqual([])
}

describe.concurrent('names', () => {
  test('with spaces, unicode, folders and all that URLs, XML and shells read in their own way', async ({ newRig }) => {
    const names = [
      '.gitattributes',
      'with space.txt',
      ' leading and trailing ',
      'überblick/概要/نص.md',
      'e\u0301 and é are two names.txt',
      'é and e\u0301 are two names.txt',
      'astral 🤗.txt',
      'fullwidth ｚ.txt',
      '100%+1 (a&b)=c,d;e~f.txt',
      'question? #hash @at :colon *star [brackets] {braces} |pipe ^caret.txt',
      '<tag attr="x">\'quoted\'.txt',
      '-rf',
      '--option=1',
      '$(touch x)`y`.sh',
      '%2e%2e%2fencoded',
      '...',
      '..dots/..more',
      'trailing.',
      'a/b/c/d/e/f/g/h.bin',
      'half.partial',
      '0',
      `${'long'.repeat(55)}.txt`,
    ]
    const repo = model(...names)
    repo.files.push({ path: 'nested folder/model ü.safetensors', body: seededBytes('weights', 1_200_000) })
    const rig = await newRig({ models: [repo] })
    await rig.mustRun('upload')
    await rig.expectUploaded(repo)
    await rig.mustRun('download')
    await rig.expectDownloaded(repo)
    rig.moved()
    await rig.mustRun('upload')
    await rig.mustRun('download')
    await rig.mustRun('verify', { env: { LEVEL: 'hashes' } })
    expect(rig.moved()).toEqual({ fromHub: 0, intoBucket: 0, outOfBucket: 0 })
  })

  test('a whole small model, of one segment and under its former name', async ({ newRig }) => {
    const repo = { ...smallModel({ id: 'openai-community/gpt2', shardSize: 1_100_000 }), formerIds: ['gpt2'] }
    const rig = await newRig({ models: [repo], env: { MODEL: 'gpt2', EXCLUDE: undefined } })
    await rig.mustRun('upload')
    await rig.mustRun('download')
    const staged = { id: 'gpt2', files: repo.files.filter(({ path }) => !path.startsWith('original/')) }
    expect((await rig.expectDownloaded(staged)).exclude).toEqual(['original/*'])
  })
})

describe.concurrent('hostile listings are refused before anything changes', () => {
  test.for([
    '../x',
    '/etc/passwd',
    'a/../../x',
    'a//b',
    './x',
    'a/.',
    'a\\..\\b',
    'a\nb',
    'a\u0000b',
    'a\u007fb',
    '',
    'folder/',
    '.upload-complete',
    '.upload-plan',
    '.upload-journal/x',
    '.download-complete',
    '.download-journal',
    'x.01234567.partial',
    'n'.repeat(250),
    'config.json/below a file',
  ])('%j', async (name, { newRig }) => {
    const rig = await newRig({ models: [model('config.json', 'good.txt', name)] })
    const { detail } = await rig.mustFail('upload', 64, 'hostile-listing')
    expect(detail).toMatch(/file name/)
    expectUntouched(rig)
  })

  test('a name twice', async ({ newRig }) => {
    const rig = await newRig({ models: [model('config.json')] })
    rig.hub.faults.add({ match: isTree, act: editJson<object[]>((rows) => [...rows, ...rows]) })
    await rig.mustFail('upload', 64, 'hostile-listing')
    expectUntouched(rig)
  })

  test('more names than evidence can hold', async ({ newRig }) => {
    const rig = await newRig({ models: [model('a.txt', 'b.txt', 'c.txt')] })
    const patch = 'import evidence; evidence.EVIDENCE_BYTES = evidence._HEADER_BYTES + 400'
    const { detail, next } = await rig.mustFail('upload', 64, 'hostile-listing', { patch })
    expect(detail).toContain('3 files')
    expect(next).toContain('--exclude')
    expectUntouched(rig)
    await rig.mustRun('upload', { patch, env: { EXCLUDE: 'c.txt' } })
  })

  test('a hostile name that the filter leaves out', async ({ newRig }) => {
    const repo = model('config.json', '.upload-notes', 'a\\b')
    const rig = await newRig({ models: [repo] })
    const { next } = await rig.mustFail('upload', 64, 'hostile-listing')
    expect(next).toContain('--exclude')
    await rig.mustRun('upload', { env: { EXCLUDE: '.upload-* a*b' } })
    expect(rig.objects()).toEqual(['.upload-complete', 'config.json'])
  })
})

describe.concurrent('a listing that is none', () => {
  const change = (edit: (row: Record<string, unknown>) => unknown) =>
    editJson<Record<string, unknown>[]>((rows) => rows.map(edit))
  test.for<[string, Act<HubRequest>]>([
    ['no list', editJson(() => ({ error: 'sorry' }))],
    ['a list of texts', editJson(() => ['config.json'])],
    ['a list of nothings', editJson(() => [null])],
    ['a number as a name', change((row) => ({ ...row, path: 7 }))],
    ['no name', change(({ path: _, ...row }) => row)],
    ['a negative size', change((row) => ({ ...row, size: -1 }))],
    ['a size as text', change((row) => ({ ...row, size: '11' }))],
    ['a size that is no whole number', change((row) => ({ ...row, size: 1.5 }))],
    ['no hash', change(({ oid: _, ...row }) => row)],
    ['an LFS entry without its hash', change((row) => ({ ...row, lfs: { size: 11 } }))],
    ['an LFS entry with half a hash', change((row) => ({ ...row, lfs: { size: 11, oid: 'abc' } }))],
    ['an LFS entry that is text', change((row) => ({ ...row, lfs: 'yes' }))],
  ])('%s', async ([, act], { newRig }) => {
    const rig = await newRig({ models: [model('config.json')] })
    rig.hub.faults.add({ match: isTree, act })
    const { detail } = await rig.mustFail('upload', 64, 'wrong-answer', { patch: QUICK })
    expect(detail).toContain('the Hub')
    expectUntouched(rig)
  })

  test.for<[string, unknown]>([
    ['no names', { siblings: undefined }],
    ['a name that the tree has not', { siblings: [{ rfilename: 'config.json' }, { rfilename: 'lost.json' }] }],
    ['no commit', { sha: undefined }],
    ['half a commit', { sha: 'abc' }],
    ['names that are none', { siblings: [{ rfilename: {} }, 7] }],
  ])('%s', async ([, edit], { newRig }) => {
    const rig = await newRig({ models: [model('config.json')] })
    const act = editJson<object>((document) => Object.assign(document, edit))
    rig.hub.faults.add({ match: ({ path }) => path.includes('/revision/'), act })
    await rig.mustFail('upload', 64, 'wrong-answer', { patch: QUICK })
    expectUntouched(rig)
    rig.hub.faults.clear()
    rig.hub.faults.add({ match: ({ path }) => path.includes('/revision/'), times: 1, act })
    await rig.mustRun('upload', { patch: QUICK })
  })

  test.for([
    ['no files', [], {}],
    ['an include that matches nothing', ['config.json'], { INCLUDE: '*.gguf' }],
    ['an exclude that matches all', ['config.json'], { EXCLUDE: '*' }],
  ] as const)('%s', async ([, paths, env], { newRig }) => {
    const rig = await newRig({ models: [model(...paths)] })
    await rig.mustFail('upload', 64, 'empty-listing', { env })
    expectUntouched(rig)
  })
})

describe.concurrent('a tree in pages', () => {
  const names = Array.from({ length: 7 }, (_, index) => `file-${index}.txt`)
  const relink = (edit: (link: string) => string | undefined): Act<HubRequest> => {
    return async ({ carryOut }) => {
      const given = await carryOut()
      const { link, ...headers } = given.headers ?? {}
      const edited = link === undefined ? undefined : edit(String(link))
      return { ...given, headers: { ...headers, ...(edited && { link: edited }) } }
    }
  }

  test('all of it', async ({ newRig }) => {
    const rig = await newRig({ models: [model(...names)], hub: { pageSize: 2 } })
    await rig.mustRun('upload')
    await rig.expectUploaded(model(...names))
    expect(rig.hub.requests.filter(isTree)).toHaveLength(4)
  })

  test.for<[string, number]>([
    ['are not there for a very large repository', 0],
    ['are cut short for one', 3],
  ])('names beside the tree that %s are no proof of a lost page', async ([, kept], { newRig }) => {
    const rig = await newRig({ models: [model(...names)] })
    const act = editJson<{ siblings: object[] }>((info) => ({ ...info, siblings: info.siblings.slice(0, kept) }))
    rig.hub.faults.add({ match: ({ path }) => path.includes('/revision/'), act })
    await rig.mustRun('upload', { patch: 'import hub; hub.NAMES_LIMIT = 3' })
    await rig.expectUploaded(model(...names))
  })

  test('more names than the pod has memory for', async ({ newRig }) => {
    const rig = await newRig({ models: [model(...names)], hub: { pageSize: 2 } })
    const { detail } = await rig.mustFail('upload', 64, 'hostile-listing', {
      patch: 'import hub; hub.MOST_ENTRIES = 3',
    })
    expect(detail).toContain('more than 3 files')
    expect(rig.hub.requests.filter(isTree)).toHaveLength(2)
    expectUntouched(rig)
  })

  test.for<[string, Act<HubRequest>, string]>([
    ['a page is lost', editJson(() => []), 'wrong-answer'],
    ['it ends early', relink(() => undefined), 'wrong-answer'],
    ['a page leads to itself', relink((link) => link.replace('cursor=4', 'cursor=2')), 'wrong-answer'],
    ['a page is in another place', relink((link) => link.replace(/<[^?]*/, '<file:///etc/passwd')), 'wrong-answer'],
  ])('%s', async ([, act, cause], { newRig }) => {
    const rig = await newRig({ models: [model(...names)], hub: { pageSize: 2 } })
    rig.hub.faults.add({ match: (request) => isTree(request) && request.query.get('cursor') === '2', act })
    await rig.mustFail('upload', 64, cause, { patch: QUICK })
    expect(rig.hub.requests.length, 'requests').toBeLessThan(40)
    expectUntouched(rig)
    rig.hub.faults.clear()
    const once = rig.hub.faults.add({ match: isTree, times: 1, act })
    await rig.mustRun('upload', { patch: QUICK })
    expect(once.hits).toBe(1)
    await rig.expectUploaded(model(...names))
  })
})

describe.concurrent('a listing that Spaces cuts short', () => {
  const names = Array.from({ length: 9 }, (_, index) => `file-${index}.txt`)
  const repo = model(...names)

  for (const cut of ['none', 'v2', 'all'] as const) {
    test(`pages of two, cut: ${cut}`, async ({ newRig }) => {
      const rig = await newRig({ models: [repo], spaces: { pageSize: 2 } })
      rig.spaces.listing.cut = cut
      await rig.mustRun('upload')
      await rig.mustRun('download')
      await rig.expectDownloaded(repo)
      rig.moved()
      await rig.mustRun('upload')
      expect(rig.moved()).toEqual({ fromHub: 0, intoBucket: 0, outOfBucket: 0 })
    })
  }

  test('a server that never moves on', async ({ newRig }) => {
    const rig = await newRig({ models: [repo], spaces: { pageSize: 2 } })
    rig.stage(repo)
    rig.spaces.faults.add({
      match: ({ operation }) => operation === 'ListObjects',
      act: ({ request, carryOut }) => {
        request.query.delete('marker')
        return carryOut()
      },
    })
    for (const verb of ['upload', 'download'] as const) {
      const { detail } = await rig.mustFail(verb, 64, 'wrong-answer', { patch: QUICK })
      expect(detail).toContain('Spaces')
    }
    expectUntouched(rig)
  })

  const emptyPage = answer(200, {}, '<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>')
  const isNextPage = ({ operation, query }: SpacesRequest) =>
    operation === 'ListObjects' && Boolean(query.get('marker'))

  test('an empty page that says there is more', async ({ newRig }) => {
    const rig = await newRig({ models: [repo], spaces: { pageSize: 2 } })
    rig.stage(repo)
    const fault = rig.spaces.faults.add({ match: isNextPage, times: 1, act: emptyPage })
    await rig.mustRun('download', { patch: QUICK })
    await rig.expectDownloaded(repo)
    expect(fault.hits).toBe(1)
    rig.spaces.faults.add({ match: isNextPage, act: emptyPage })
    for (const verb of ['upload', 'download'] as const) await rig.mustFail(verb, 64, 'wrong-answer', { patch: QUICK })
  })

  test('a server that shows the first page only', async ({ newRig }) => {
    const rig = await newRig({ models: [repo], spaces: { pageSize: 2 } })
    rig.stage(repo)
    rig.spaces.faults.add({
      match: ({ operation, query }) => operation === 'ListObjects' && Boolean(query.get('marker')),
      act: ({ request, carryOut }) => {
        request.query.set('marker', '\uffff')
        return carryOut()
      },
    })
    await rig.mustFail('download', 64, 'spaces-incomplete')
    await rig.expectNotDownloaded()
    await rig.mustFail('upload', 1, 'spaces-unsteady')
    rig.expectNotUploaded()
  })
})

describe.concurrent('filters', () => {
  const weights = (path: string) => ({ path, body: Buffer.from(path), lfs: true })
  const rows: [string, HubRepo['files'], Record<string, string | undefined>, string[]][] = [
    [
      'original/ is left out where there are weights beside it',
      [text('a.json'), weights('b.safetensors'), weights('original/c.pth')],
      { EXCLUDE: undefined },
      ['a.json', 'b.safetensors'],
    ],
    [
      'original/ is kept where it holds the only weights',
      [text('a.json'), weights('original/c.pth')],
      { EXCLUDE: undefined },
      ['a.json', 'original/c.pth'],
    ],
    [
      'original/ is kept when nothing is to be left out',
      [weights('b.safetensors'), weights('original/c.pth')],
      { EXCLUDE: '' },
      ['b.safetensors', 'original/c.pth'],
    ],
    [
      'a star crosses folders, and exclude wins',
      [text('a.json'), text('x/y/b.json'), text('x/c.txt')],
      { INCLUDE: '*.json *.txt', EXCLUDE: 'x/*.json' },
      ['a.json', 'x/c.txt'],
    ],
  ]
  test.for(rows)('%s', async ([, files, env, kept], { newRig }) => {
    const rig = await newRig({ models: [{ id: 'acme/filtered', files }] })
    await rig.mustRun('upload', { env })
    expect(rig.objects()).toEqual(['.upload-complete', ...kept])
    await rig.mustRun('download', { env })
    expect(await rig.files()).toEqual(['.download-complete', ...kept])
  })
})
