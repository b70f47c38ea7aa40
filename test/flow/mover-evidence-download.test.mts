import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, stat, symlink, truncate, utimes, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { describe, expect } from 'vitest'
import { answer } from '../local/faults.mts'
import type { HubRepo } from '../local/hub.mts'
import { seededBytes } from '../local/model.mts'
import {
  callsOf,
  documentOf,
  evidenceOf,
  flipped,
  type Rig,
  SHOW_CALLS,
  spacesReads,
  test,
  type Verb,
} from './mover.mts'
import { sha256 } from './proof.mts'

const bytes = (seed: string, size: number) => seededBytes(seed, size)
const LARGE = 1_500_000
const SMALL = 3000
const model: HubRepo = {
  id: 'acme/evident',
  files: [
    { path: 'config.json', body: bytes('config', SMALL) },
    { path: 'nested/deep/vocab.txt', body: bytes('vocab', SMALL) },
    { path: 'model.safetensors', body: bytes('model', LARGE) },
  ],
}
const SIZE = LARGE + 2 * SMALL
const NEXT: HubRepo = {
  id: model.id,
  files: [
    { path: 'config.json', body: bytes('new config', SMALL + 1) },
    { path: 'added.json', body: bytes('added', SMALL) },
    { path: 'model.safetensors', body: bytes('model', LARGE) },
  ],
}

const DEEP = `${'folder/'.repeat(150)}x.txt`

/** Bytes of model files that hop 2 has read since the last call. */
const read = (rig: Rig) => rig.moved().outOfBucket

async function staged(newRig: (options?: object) => Promise<Rig>): Promise<Rig> {
  const rig = await newRig({ models: [model] })
  rig.stage(model)
  await rig.mustRun('download')
  rig.moved()
  return rig
}

/** Writes other bytes of the same size, and gives the file its old modification time back, to the nanosecond. */
async function rot(file: string, offset = 7): Promise<void> {
  const reference = path.join(await mkdtemp(path.join(os.tmpdir(), 'times-')), 'reference')
  execFileSync('touch', ['-r', file, reference])
  await writeFile(file, flipped(await readFile(file), offset))
  execFileSync('touch', ['-r', reference, file])
  await rm(path.dirname(reference), { recursive: true })
}

/** For `patch`: names every file and folder that is made to last, and every file that is put in its place. */
const SHOW_SYNCS = `
import os
fsync, replace = os.fsync, os.replace
def shown(descriptor):
    fsync(descriptor)
    os.write(1, f"fsync {os.readlink(f'/proc/self/fd/{descriptor}')}\\n".encode())
def placed(source, target):
    os.write(1, f"replace {target}\\n".encode())
    replace(source, target)
os.fsync, os.replace = shown, placed
`

function manyFiles(): string {
  const files = Array.from({ length: 100_000 }, (_, index) => ({
    path: `data/train-${String(index).padStart(6, '0')}.parquet`,
    size: index,
    sha256: sha256(bytes('none', 1)),
  }))
  return documentOf({ ...evidenceOf(model), files })
}

/** Makes the evidence newer than every change before, as if the disk itself had lost a bit. */
const renew = (rig: Rig) => utimes(rig.file('.download-complete'), new Date(), new Date())

describe.concurrent('evidence in Spaces that is none: hop 2 refuses it before it changes anything', () => {
  test.for<[string, string | undefined]>([
    ['none', undefined],
    ['an empty one', ''],
    ['half of a manifest', documentOf(evidenceOf(model)).slice(0, 300)],
    ['a manifest of another tool', JSON.stringify({ schema: 2, files: [] })],
    ['a manifest without files', documentOf(evidenceOf(model, { files: [] }))],
    ['hostile paths', documentOf(evidenceOf({ id: model.id, files: [{ path: '../x', body: bytes('x', 1) }] }))],
    [
      'a path that no key holds',
      documentOf(evidenceOf({ id: model.id, files: [{ path: DEEP, body: bytes('x', 1) }] })),
    ],
  ])('%s', async ([, sentinel], { newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    if (sentinel === undefined) rig.bucket.delete(rig.key('.upload-complete'))
    else rig.putObject('.upload-complete', sentinel, 30)
    const { next } = await rig.mustFail('download', 64, 'no-evidence')
    expect(next).toContain('make model-to-spaces')
    expect(await rig.files()).toEqual([])
  })

  test.for([
    ['another model', { model: 'acme/other' }, {}, 'acme/other'],
    ['another revision', { revision: 'v2' }, {}, 'v2'],
    ['another include', { include: ['*.json'] }, {}, 'files of --include *.json, those of --exclude original/* were'],
    ['another exclude', { exclude: ['*.bin'] }, {}, 'files of --exclude *.bin, those of'],
    [
      'an exclude that was not asked for',
      { exclude: ['original/*'] },
      { EXCLUDE: '' },
      'those of no filter were asked for',
    ],
  ] as const)('%s', async ([, change, env, named], { newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model, structuredClone(change) as object)
    const { detail } = await rig.mustFail('download', 64, 'other-evidence', { env })
    expect(detail, 'both sides').toContain(named)
    expect(await rig.files()).toEqual([])
  })

  test.for([
    ['missing', undefined],
    ['cut', 'cut'],
  ])('an object is %s', async ([, body], { newRig }) => {
    const rig = await staged(newRig)
    rig.stage(NEXT)
    if (body === undefined) rig.bucket.delete(rig.key('added.json'))
    else rig.putObject('added.json', body, 60)
    const { detail, next } = await rig.mustFail('download', 64, 'spaces-incomplete')
    expect(detail).toContain('added.json')
    expect(next).toContain('make model-to-spaces')
    await rig.expectDownloaded(model)
  })
})

describe.concurrent('evidence in Spaces under another name for what was asked', () => {
  test.for([
    ['the commit itself', {}, { REVISION: 'c'.repeat(40) }],
    ['the default filter as applied', { exclude: ['original/*'] }, { EXCLUDE: undefined }],
    ['the default filter where it did not apply', { exclude: [] }, { EXCLUDE: undefined }],
    ['an explicit filter', { include: ['*'], exclude: ['*.bin'] }, { INCLUDE: '*', EXCLUDE: '*.bin' }],
  ] as const)('%s', async ([, change, env], { newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model, structuredClone(change) as object)
    await rig.mustRun('download', { env })
    expect(await rig.files()).toContain('.download-complete')
  })
})

describe.concurrent('a sentinel on the volume that proves nothing: the files are hashed and adopted', () => {
  test.for<[string, string]>([
    ['an empty one', ''],
    ['half of a manifest', documentOf(evidenceOf(model)).slice(0, 300)],
    ['the evidence of another model', documentOf(evidenceOf({ ...model, id: 'acme/other' }))],
    ['hostile paths', documentOf(evidenceOf({ id: model.id, files: [{ path: '../x', body: bytes('x', 1) }] }))],
  ])('%s', async ([, sentinel], { newRig }) => {
    const rig = await staged(newRig)
    await rot(rig.file('config.json'))
    await writeFile(rig.file('.download-complete'), sentinel)
    await rig.mustRun('download')
    expect(read(rig), 'the one that was wrong').toBe(SMALL)
    await rig.expectDownloaded(model)
  })

  test('none: what was proved has reached the server first', async ({ newRig }) => {
    const rig = await staged(newRig)
    await rm(rig.file('.download-complete'))
    const { log } = await rig.mustRun('download', { patch: SHOW_SYNCS })
    const synced = [...log.matchAll(/^fsync .*\/(.+)$/gm)].map(([, name]) => name)
    const last = synced.findIndex((name) => name?.startsWith('.download-complete.'))
    expect(synced.slice(0, last)).toEqual(expect.arrayContaining(['config.json', 'vocab.txt', 'model.safetensors']))
    expect(read(rig)).toBe(0)
  })

  test('no file before its bytes last, and no evidence before every file and every folder does', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    const evidence = rig.stage(model)
    const { log } = await rig.mustRun('download', { patch: SHOW_SYNCS })
    const said = log.split('\n')
    const evident = said.indexOf(`replace ${rig.file('.download-complete')}`)
    for (const { path: name, sha256 } of evidence.files) {
      const place = said.indexOf(`replace ${rig.file(name)}`)
      const bytes = said.indexOf(`fsync ${rig.file(name)}.${sha256.slice(0, 8)}.partial`)
      expect(bytes, `bytes of ${name}`).toBeGreaterThanOrEqual(0)
      expect(place, `place of ${name}`).toBeGreaterThan(bytes)
      for (let folder = path.dirname(rig.file(name)); ; folder = path.dirname(folder)) {
        const folders = said.slice(place, evident)
        expect(folders, `between ${name} and the evidence`).toContain(`fsync ${folder}`)
        if (folder === rig.volume) break
      }
    }
    expect(said.slice(evident)).toContain(`fsync ${path.dirname(rig.file('.download-complete'))}`)
  })

  test('none, and a file too few, one cut and one wrong', async ({ newRig }) => {
    const rig = await staged(newRig)
    await rm(rig.file('.download-complete'))
    await rm(rig.file('nested/deep/vocab.txt'))
    await truncate(rig.file('config.json'), 10)
    await rot(rig.file('model.safetensors'))
    await rig.mustRun('download')
    expect(read(rig)).toBe(SIZE)
    await rig.expectDownloaded(model)
  })
})

describe.concurrent('evidence that was true', () => {
  test('a changed commit moves what changed, removes what is gone and leaves what nobody knows', async ({ newRig }) => {
    const rig = await staged(newRig)
    await writeFile(rig.file('notes.txt'), 'mine')
    await mkdir(rig.file('.cache'))
    rig.stage(NEXT, { commit: 'd'.repeat(40) })
    const { log, message } = await rig.mustRun('download')
    expect(read(rig)).toBe(2 * SMALL + 1)
    expect(message).toMatchObject({ moved: 2 * SMALL + 1, files: 3, files_moved: 2 })
    expect(log).toContain('notes.txt')
    expect(await rig.expectDownloaded(NEXT, ['notes.txt'])).toMatchObject({ commit: 'd'.repeat(40) })
    await expect(stat(rig.file('nested')), 'the folders of what is gone').rejects.toThrow('ENOENT')
    await stat(rig.file('.cache'))
  })

  test('a changed commit does not read what is known to be other bytes of the same size', async ({ newRig }) => {
    const rig = await staged(newRig)
    const files = model.files.map(({ path, body }) => ({ path, body: flipped(body as Uint8Array, 0) }))
    rig.stage({ ...model, files }, { commit: 'd'.repeat(40) })
    const { log } = await rig.mustRun('download', { patch: SHOW_CALLS })
    for (const name of ['config.json', 'model.safetensors']) expect(callsOf(log, name)).not.toContain('preadv')
    await rig.expectDownloaded({ ...model, files })
  })

  test('what was hashed as it stands there says more than evidence that is newer', async ({ newRig }) => {
    const rig = await staged(newRig)
    const other = flipped(bytes('config', SMALL), 9)
    await writeFile(rig.file('config.json'), other)
    const { mtimeNs, ino, ctimeNs } = await stat(rig.file('config.json'), { bigint: true })
    const file = `"path": "config.json", "size": ${SMALL}, "sha256": "${sha256(other)}"`
    await writeFile(rig.file('.download-journal'), `{${file}, "mark": [${SMALL}, ${mtimeNs}, ${ino}, ${ctimeNs}]}\n`)
    await renew(rig)
    await rig.mustRun('download')
    await rig.expectDownloaded(model)
  })

  test('what a repair that fails did not trust, the next run hashes too', async ({ newRig }) => {
    const rig = await staged(newRig)
    await rot(rig.file('config.json'))
    await rot(rig.file('model.safetensors'))
    await renew(rig)
    const fault = rig.spaces.faults.add({
      match: spacesReads('config.json'),
      act: answer(403, {}, '<Error><Code>AccessDenied</Code></Error>'),
    })
    await rig.mustFail('download', 64, 'spaces-denied', { env: { REPAIR: 'true' } })
    fault.remove()
    await rig.mustRun('download')
    await rig.expectDownloaded(model)
  })

  test('nothing to do', async ({ newRig }) => {
    const rig = await staged(newRig)
    const before = await stat(rig.file('.download-complete'))
    const { message } = await rig.mustRun('download')
    expect(read(rig)).toBe(0)
    expect(message).toMatchObject({ moved: 0, bytes: SIZE, files: 3, files_moved: 0 })
    expect((await stat(rig.file('.download-complete'))).ino).toBe(before.ino)
    await rig.expectDownloaded(model)
  })

  for (const [label, name, size] of [
    ['a small file', 'config.json', SMALL],
    ['a large file', 'model.safetensors', LARGE],
  ] as const) {
    test(`${label} that changed with its size and its time kept`, async ({ newRig }) => {
      const rig = await staged(newRig)
      await rot(rig.file(name), size - 1)
      await rig.mustFail('verify', 64, 'mismatch', { env: { LEVEL: 'hashes' } })
      await rig.mustRun('download')
      expect(read(rig)).toBe(size)
      await rig.expectDownloaded(model)
    })

    test(`${label} that rotted where no time tells: hashes find it, repair mends it`, async ({ newRig }) => {
      const rig = await staged(newRig)
      await rot(rig.file(name), size - 1)
      await renew(rig)
      await rig.mustRun('download')
      await rig.mustRun('verify', { env: { LEVEL: 'sizes' } })
      expect(read(rig)).toBe(0)
      const { wrong, next } = await rig.mustFail('verify', 64, 'mismatch', { env: { LEVEL: 'hashes' } })
      expect(wrong).toEqual([name])
      expect(next).toContain('--repair')
      await rig.mustRun('download', { env: { REPAIR: 'true' } })
      expect(read(rig), 'only the bad one').toBe(size)
      await rig.expectDownloaded(model)
      await rig.mustRun('verify', { env: { LEVEL: 'hashes' } })
    })
  }

  for (const [what, change] of [
    ['chmod -R', (rig: Rig) => execFileSync('chmod', ['-R', 'u+rwX,o-x', rig.file('.')])],
    ['chown -R', (rig: Rig) => execFileSync('chown', ['-R', String(process.getuid?.()), rig.file('.')])],
  ] as const) {
    test(`${what} makes a file that changed no better, and costs a good model one hashing`, async ({ newRig }) => {
      const rig = await staged(newRig)
      await rot(rig.file('model.safetensors'))
      change(rig)
      const { wrong } = await rig.mustFail('verify', 64, 'mismatch')
      expect(wrong).toEqual(['model.safetensors'])
      await rig.mustRun('download')
      expect(read(rig)).toBe(LARGE)
      change(rig)
      await rig.mustRun('verify')
      await rig.mustRun('download')
      expect(read(rig)).toBe(0)
      const unread =
        'import descriptor\ndef hash_descriptor(*_):\n    raise OSError(5, "read")\ndescriptor.hash_descriptor = hash_descriptor'
      await rig.mustRun('verify', { patch: unread })
      await rig.mustRun('download', { patch: unread })
      await rig.expectDownloaded(model)
    })
  }

  test('a file that is gone, and one that was cut', async ({ newRig }) => {
    const rig = await staged(newRig)
    await rm(rig.file('config.json'))
    await truncate(rig.file('nested/deep/vocab.txt'), 0)
    await rig.mustRun('download')
    expect(read(rig)).toBe(2 * SMALL)
    await rig.expectDownloaded(model)
  })

  test('a file that changed, size and time kept, between a run that failed and the next', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    rig.putObject('model.safetensors', flipped(bytes('model', LARGE), 5), 60)
    await rig.mustFail('download', 64, 'wrong-bytes')
    rig.putObject('model.safetensors', bytes('model', LARGE), 60)
    await rot(rig.file('config.json'))
    rig.moved()
    await rig.mustRun('download')
    expect(read(rig), 'the other small one is proved').toBe(LARGE + SMALL)
    await rig.expectDownloaded(model)
  })
})

test('of a partial whose end a lost node had not written, only the end is fetched again', async ({ newRig }) => {
  const PART = 5 << 20
  const body = bytes('huge', 5 * PART)
  const huge: HubRepo = { id: model.id, files: [{ path: 'huge.bin', body }] }
  const rig = await newRig({ models: [huge] })
  const [file] = rig.stage(huge).files
  await mkdir(rig.file('.'), { recursive: true })
  const held = Buffer.concat([body.subarray(0, 4 * PART - 1000), Buffer.alloc(1000)])
  await writeFile(rig.file(`huge.bin.${file?.sha256.slice(0, 8)}.partial`), held)
  await rig.mustRun('download', { patch: 'import descriptor; descriptor.STEP = 2**18' })
  expect(read(rig), 'the last part, then all but the first').toBe(PART + 4 * PART)
  await rig.expectDownloaded(huge)
})

/** For `patch`: does something in place of writing the evidence, with \`self\`, \`write()\` and \`rot(name, text)\`. */
const writing = (lines: string) => `
import partials
from download_journal import DownloadJournal
write_document = partials.Partials.write_document
def patched(self, name, body):
    def write():
        write_document(self, name, body)
    def rot(path, at=0):
        file = self._volume.folder / path
        text = bytearray(file.read_bytes())
        text[at:at + 1] = b"X" if at else text[:1]
        file.write_bytes(text)
    if name != ".download-complete":
        return write()
    ${lines.replaceAll('\n', '\n    ')}
partials.Partials.write_document = patched
`

describe.concurrent('while the evidence is written, it is true or not there', () => {
  test.for([
    ['a file changes before', 'rot("model.safetensors", 9)\nwrite()', 'is not as it was written'],
    ['a file changes after', 'write()\nrot("model.safetensors", 9)', 'is not as it was written'],
    ['the same bytes come again and again', 'write()\nrot("config.json")', 'keep being replaced'],
    [
      'another run begins',
      'write()\nDownloadJournal(self._volume).append([], begun="f" * 64)',
      'another run began to write other files of acme/evident',
    ],
  ])('%s', async ([, lines = '', words], { newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const { detail } = await rig.mustFail('download', 1, 'volume-io', { patch: writing(lines) })
    expect(detail).toContain(words)
    await rig.expectNotDownloaded()
    await rig.mustRun('download')
    await rig.expectDownloaded(model)
  })

  test('another run has finished: its evidence stays', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const other = documentOf(evidenceOf(model, { commit: 'e'.repeat(40) }))
    const patch = `
import download
check_all = download.Download._check_all
def finish_another(self):
    check_all(self)
    (self._volume.folder / ".download-journal").unlink()
    (self._volume.folder / ".download-complete").write_text(${JSON.stringify(other)})
download.Download._check_all = finish_another
`
    const { detail, next } = await rig.mustFail('download', 1, 'volume-io', { patch })
    expect(detail).toBe('another run finished acme/evident meanwhile')
    expect(next).toContain('no other run')
    expect(await readFile(rig.file('.download-complete'), 'utf8')).toBe(other)
  })
})

const OTHER_RUN = `${JSON.stringify({ begun: 'f'.repeat(64) })}\n`

test('a run that was killed before its first change does not cost the evidence under another name', async ({
  newRig,
}) => {
  const rig = await staged(newRig)
  await writeFile(rig.file('.download-journal'), OTHER_RUN)
  rig.stage(model, { revision: 'v2' })
  await rig.mustRun('download', { env: { REVISION: 'v2' } })
  expect(read(rig)).toBe(0)
  expect(await rig.expectDownloaded(model)).toMatchObject({ revision: 'v2' })
})

test('a run that finds all complete leaves the journal of one that begins meanwhile alone', async ({ newRig }) => {
  const rig = await staged(newRig)
  const patch = `
import download
discard = download.Download._discard_partials
def begin_another(self, kept):
    discard(self, kept)
    with open(self._volume.folder / ".download-journal", "w") as journal:
        journal.write(${JSON.stringify(OTHER_RUN)})
download.Download._discard_partials = begin_another
`
  await rig.mustRun('download', { patch })
  expect(await readFile(rig.file('.download-journal'), 'utf8')).toBe(OTHER_RUN)
  await rig.mustRun('download')
  await rig.expectDownloaded(model)
})

test('a journal does not grow with every run that ends before its time', async ({ newRig }) => {
  const rig = await newRig({ models: [model] })
  rig.stage(model)
  rig.putObject('model.safetensors', flipped(bytes('model', LARGE), 5), 60)
  const sizes: number[] = []
  for (let run = 0; run < 3; run++) {
    await rig.mustFail('download', 64, 'wrong-bytes')
    sizes.push((await readFile(rig.file('.download-journal'), 'utf8')).match(/"path"/g)?.length ?? 0)
  }
  expect(new Set(sizes), 'lines that name a path').toEqual(new Set([5]))
})

describe.concurrent('what stands in the way on the volume', () => {
  const OUTSIDE = 'must stay as it is'

  test('links where files and partials go lead nowhere', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const outside = path.join(rig.dir, 'outside')
    await writeFile(outside, OUTSIDE)
    await mkdir(rig.file('.'), { recursive: true })
    await symlink(outside, rig.file('config.json'))
    await rig.mustRun('download')
    expect(await readFile(outside, 'utf8')).toBe(OUTSIDE)
    await rig.expectDownloaded(model)
  })

  for (const name of ['config.json', 'model.safetensors', '.download-complete', '.download-journal']) {
    test(`a link in the place of the partial of ${name}`, async ({ newRig }) => {
      const rig = await newRig({ models: [model] })
      const evidence = rig.stage(model)
      const outside = path.join(rig.dir, 'outside')
      await writeFile(outside, OUTSIDE)
      await mkdir(rig.file('.'), { recursive: true })
      const file = evidence.files.find(({ path }) => path === name)
      const partial = name === '.download-journal' ? name : `${name}.${file?.sha256.slice(0, 8) ?? '00000000'}.partial`
      await symlink(outside, rig.file(partial))
      const end = await rig.runMover('download')
      expect(await readFile(outside, 'utf8')).toBe(OUTSIDE)
      if (end.code === 0) await rig.expectDownloaded(model)
      else expect(end, end.log).toMatchObject({ code: 64, message: { cause: 'volume-obstacle' } })
    })
  }

  test.for([
    ['a linked folder', 'nested', 'link'],
    ['a linked model folder', '.', 'link'],
    ['a file in the place of a folder', 'nested', 'file'],
    ['a folder in the place of a file', 'config.json', 'folder'],
  ] as const)('%s', async ([, name, kind], { newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const outside = path.join(rig.dir, 'outside')
    await mkdir(outside)
    const place = path.resolve(rig.file(name))
    await mkdir(path.dirname(place), { recursive: true })
    if (kind === 'link') await symlink(outside, place)
    else if (kind === 'file') await writeFile(place, OUTSIDE)
    else {
      await mkdir(path.join(place, 'full'), { recursive: true })
      await writeFile(path.join(place, 'full/notes.txt'), OUTSIDE)
    }
    const { detail } = await rig.mustFail('download', 64, 'volume-obstacle')
    expect(detail).toContain(name === '.' ? 'evident' : name)
    expect((await stat(outside)).nlink, 'nothing was made behind the link').toBe(2)
    await rig.expectNotDownloaded()
  })

  test('a folder where a file goes does not cost the old model its evidence', async ({ newRig }) => {
    const rig = await staged(newRig)
    await mkdir(rig.file('added.json'))
    await writeFile(rig.file('added.json/notes.txt'), OUTSIDE)
    rig.stage(NEXT, { commit: 'd'.repeat(40) })
    const { detail } = await rig.mustFail('download', 64, 'volume-obstacle')
    expect(detail).toContain('added.json/notes.txt')
    expect(read(rig)).toBe(0)
    await rig.expectDownloaded(model, ['added.json/notes.txt'])
  })

  test('a folder where a file goes, with nothing in it but folders', async ({ newRig }) => {
    const rig = await staged(newRig)
    await mkdir(rig.file('added.json/a/b'), { recursive: true })
    rig.stage(NEXT, { commit: 'd'.repeat(40) })
    await rig.mustRun('download')
    await rig.expectDownloaded(NEXT)
  })

  for (const name of ['.download-complete', '.download-journal']) {
    test(`a pipe in the place of ${name}, which nobody ever writes to`, async ({ newRig }) => {
      const rig = await newRig({ models: [model] })
      rig.stage(model)
      await mkdir(rig.file('.'), { recursive: true })
      execFileSync('mkfifo', [rig.file(name)])
      const verbs: Verb[] =
        name === '.download-complete' ? ['download', 'verify', 'clean-nfs'] : ['download', 'clean-nfs']
      for (const verb of verbs) {
        const { detail } = await rig.mustFail(verb, 64, 'volume-obstacle')
        expect(detail).toContain(name)
      }
    })
  }

  test('a pipe and a link under the names of partials go', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    await mkdir(rig.file('.'), { recursive: true })
    execFileSync('mkfifo', [rig.file('config.json.01234567.partial')])
    await symlink(rig.dir, rig.file('model.safetensors.01234567.partial'))
    await rig.mustRun('download')
    await rig.expectDownloaded(model)
  })

  test('names that are no text', async ({ newRig }) => {
    const rig = await staged(newRig)
    const odd = Buffer.concat([Buffer.from(rig.file('caf')), Buffer.from([0xe9])])
    await writeFile(odd, 'latin-1')
    await rm(rig.file('config.json'))
    await rig.mustRun('download', { env: { LANG: 'C.UTF-8', PYTHONIOENCODING: 'utf-8:strict' } })
    const { message } = await rig.mustRun('verify', { env: { LANG: 'C.UTF-8', PYTHONIOENCODING: 'utf-8:strict' } })
    expect(message?.unknown).toHaveLength(1)
  })
})

describe.concurrent('verify', () => {
  test('the volume as it was staged, read-only and without packages', async ({ newRig }) => {
    const rig = await staged(newRig)
    const env = {
      AWS_ACCESS_KEY_ID: undefined,
      AWS_SECRET_ACCESS_KEY: undefined,
      ENDPOINT: undefined,
      BUCKET: undefined,
    }
    for (const LEVEL of ['names', 'sizes', 'hashes', undefined]) {
      const patch = 'import sys; sys.modules.update({"botocore": None, "urllib3": None})'
      const { message, log } = await rig.mustRun('verify', { env: { ...env, LEVEL }, patch })
      expect(log.includes('phase hashing'), 'nothing is called hashed that was not').toBe(LEVEL === 'hashes')
      expect(message).toMatchObject({ files: 3, bytes: SIZE, commit: 'c'.repeat(40), unknown: [] })
    }
    expect(rig.spaces.requests).toEqual([])
    await rig.expectDownloaded(model)
  })

  test.for(['removed', 'written again'])('evidence that is %s meanwhile is no verdict', async (how, { newRig }) => {
    const rig = await staged(newRig)
    const patch = `
import verify
unknown = verify.Volume.unknown
def change(self, known):
    sentinel = self.folder / ".download-complete"
    body = sentinel.read_bytes()
    sentinel.unlink()
    if ${how === 'removed' ? 'False' : 'True'}:
        sentinel.write_bytes(body)
    return unknown(self, known)
verify.Volume.unknown = change
`
    const { detail } = await rig.mustFail('verify', 1, 'volume-io', { patch })
    expect(detail).toContain('was changed while it was checked')
  })

  test('hashes are of what the server has', async ({ newRig }) => {
    const rig = await staged(newRig)
    const { log } = await rig.mustRun('verify', { patch: SHOW_CALLS, env: { LEVEL: 'hashes' } })
    for (const { path: name } of model.files) {
      expect(callsOf(log, path.basename(name)).slice(0, 2)).toEqual(['posix_fadvise whole', 'preadv'])
    }
  })

  test('a link to a folder is a file that nobody knows: a server would follow it', async ({ newRig }) => {
    const rig = await staged(newRig)
    await symlink(rig.dir, rig.file('nested/extra'))
    const { message } = await rig.mustRun('verify')
    expect(message?.unknown).toEqual(['nested/extra'])
    expect((await rig.mustRun('clean-nfs')).message?.unknown).toEqual(['nested/extra'])
  })

  test('the name of a revision that is longer than the message', async ({ newRig }) => {
    const rig = await staged(newRig)
    await writeFile(rig.file('.download-complete'), documentOf(evidenceOf(model, { revision: 'v'.repeat(5000) })))
    const { message } = await rig.mustRun('verify', { env: { REVISION: undefined } })
    expect(message).toMatchObject({ files: 3, bytes: SIZE })
  })

  test('missing, wrong and unknown files at each level', async ({ newRig }) => {
    const rig = await staged(newRig)
    await rm(rig.file('nested/deep/vocab.txt'))
    await truncate(rig.file('config.json'), 5)
    await rot(rig.file('model.safetensors'))
    await writeFile(rig.file('stray.bin'), '')
    await renew(rig)
    const found = async (LEVEL: string) => {
      const { missing, wrong, unknown, detail } = await rig.mustFail('verify', 64, 'mismatch', { env: { LEVEL } })
      expect(detail).toMatch(/config|vocab|model/)
      return { missing, wrong, unknown }
    }
    const missing = ['nested/deep/vocab.txt']
    const unknown = ['stray.bin']
    expect(await found('names')).toEqual({ missing, wrong: [], unknown })
    expect(await found('sizes')).toEqual({ missing, wrong: ['config.json'], unknown })
    expect(await found('hashes')).toEqual({ missing, wrong: ['config.json', 'model.safetensors'], unknown })
  })

  test.for<[string, string | undefined]>([
    ['no evidence', undefined],
    ['empty evidence', ''],
    ['the evidence of another model', documentOf(evidenceOf({ ...model, id: 'acme/other' }))],
  ])('%s', async ([, sentinel], { newRig }) => {
    const rig = await newRig({ models: [model] })
    await mkdir(rig.file('.'), { recursive: true })
    if (sentinel !== undefined) await writeFile(rig.file('.download-complete'), sentinel)
    const { next } = await rig.mustFail('verify', 64, 'no-evidence')
    expect(next).toContain('make model-to-nfs')
  })

  test('another revision than the one that stands there, where one is asked for', async ({ newRig }) => {
    const rig = await staged(newRig)
    const { detail } = await rig.mustFail('verify', 64, 'other-evidence', { env: { REVISION: 'v9' } })
    expect(detail).toMatch(/holds revision main .* v9 was asked for/)
    await rig.mustRun('verify', { env: { REVISION: 'main' } })
  })

  test('thousands of wrong files fit into the message', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    const name = (count: number) => `${'deep folder/'.repeat(8)}${'ü'.repeat(50)}-${count}`
    const count = 5000
    const files = Array.from({ length: count }, (_, index) => ({ path: name(index), body: bytes(String(index), 3) }))
    await mkdir(path.dirname(rig.file(name(0))), { recursive: true })
    await Promise.all(files.slice(0, count / 2).map((file) => writeFile(rig.file(file.path), 'bad!')))
    await writeFile(rig.file('.download-complete'), documentOf(evidenceOf({ id: model.id, files })))
    const { detail, missing, wrong } = await rig.mustFail('verify', 64, 'mismatch')
    expect(detail).toContain('2500 missing and 2500 wrong')
    expect(missing?.length).toBeGreaterThan(0)
    expect(wrong?.length).toBeGreaterThan(0)
  })

  // Under the limit of its pod, and in seconds although all of them are missing.
  test.for<[string, RegExp, () => string]>([
    ['evidence of 100,000 files', /100000 missing/, manyFiles],
    ['lists in lists', /proves nothing/, () => `{"schema": 1, "files": [${'[],'.repeat(8e6)}[]]}`],
    ['one large file entry', /proves nothing/, () => `{"schema": 1, "files": [{${'"a":1,'.repeat(4e6)}"b":1}]}`],
    ['lists beside the files', /proves nothing/, () => `{"schema": 1, "files": [], "x": [${'[],'.repeat(8e6)}[]]}`],
    ['more than evidence ever holds', /proves nothing/, () => documentOf(evidenceOf(model)) + ' '.repeat(33 << 20)],
  ])('%s takes no more memory than the pod has', async ([, said, sentinel], { newRig }) => {
    const rig = await newRig({ models: [model] })
    await mkdir(rig.file('.'), { recursive: true })
    await writeFile(rig.file('.download-complete'), sentinel())
    const { message } = await rig.runMover('verify', { via: ['prlimit', `--data=${256 << 20}`] })
    expect(message?.detail).toMatch(said)
  })

  test('the derived list is good for sha256sum', async ({ newRig }) => {
    const rig = await staged(newRig)
    const { files } = JSON.parse(await readFile(rig.file('.download-complete'), 'utf8'))
    for (const file of files) expect(sha256(await readFile(rig.file(file.path)))).toBe(file.sha256)
  })
})
