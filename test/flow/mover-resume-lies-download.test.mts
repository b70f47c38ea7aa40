import { randomBytes } from 'node:crypto'
import {
  appendFile,
  cp,
  lstat,
  mkdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { answer } from '../local/faults.mts'
import type { HubRepo } from '../local/hub.mts'
import { Forks } from './forks.mts'
import { callsOf, flipped, mixedModel, type Rig, SHOW_CALLS, spacesReads, startRig } from './mover.mts'
import { sha256 } from './proof.mts'

const mixed = mixedModel()
const model: HubRepo = { ...mixed, files: [...mixed.files, { path: 'docs/guide.md', body: Buffer.from('a guide') }] }
const PART = 5 * 2 ** 20
const body = (name: string) => model.files.find((file) => file.path === name)?.body as Uint8Array
const partial = (name: string) => `${name}.${sha256(body(name)).slice(0, 8)}.partial`
const WEIGHTS = 'model.safetensors'
const JOURNAL = '.download-journal'

let rig: Rig
let forks: Forks
let killed: string
/** A file outside of the model, which nothing may change. */
let victim: string

/** Behind a kill in the second part of the weights; the small files are in place. */
beforeAll(async () => {
  rig = await startRig({ models: [model], env: { BUFFER: '32Mi' } })
  forks = new Forks(rig)
  rig.stage(model)
  killed = path.join(rig.dir, 'killed')
  victim = path.join(rig.volume, 'acme', 'victim')
  const patch = `import volume_kills; volume_kills.arm('half of a pwrite of ${WEIGHTS} at ${PART}')`
  expect(await forks.run('download', { env: { INCLUDE: undefined }, patch })).toMatchObject({ status: -9 })
  await rename(rig.volume, killed)
})
beforeEach(async () => {
  await rm(rig.volume, { recursive: true, force: true })
  await cp(killed, rig.volume, { recursive: true, preserveTimestamps: true })
  await writeFile(victim, 'precious')
})
afterAll(async () => {
  await forks?.close()
  await rig?.close()
})

async function expectMended(others: string[] = []): Promise<void> {
  await forks.mustRun('download')
  await rig.expectDownloaded(model, others)
  expect(await readFile(victim, 'utf8')).toBe('precious')
}

async function expectRefused(): Promise<void> {
  expect(await forks.run('download')).toMatchObject({ status: 64, message: { cause: 'volume-obstacle' } })
  expect(await readFile(victim, 'utf8')).toBe('precious')
}

const entry = (name: string, mark: unknown): string =>
  `${JSON.stringify({ path: name, size: body(name).length, sha256: sha256(body(name)), mark }, exact).replaceAll(/"(\d+)n"/g, '$1')}\n`

/** Nanoseconds are more than a number holds. */
const exact = (_: string, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value)

for (const [lie, lines] of [
  ['is torn', async () => (await readFile(rig.file(JOURNAL))).subarray(0, -40)],
  ['is empty', async () => ''],
  ['holds bytes', async () => randomBytes(5000)],
  ['holds other documents', async () => 'null\n[]\n"x"\n5\n{}\n{"path": "a"}\n'],
  ['holds numbers that are none', async () => '{"path": "a", "size": 1e999, "sha256": "", "mark": [1e999, 0, 0]}\n'],
  ['holds marks that are none', async () => entry('config.json', [1]) + entry('config.json', { a: 1, b: 2, c: 3 })],
  ['is too deep to read', async () => `${'['.repeat(200_000)}\n`],
  [
    'names paths that lead out',
    async () =>
      ['../victim', '../../acme/victim', '/etc/hostname', 'docs/../../victim', 'docs/./guide.md', '']
        .map((name) => `${JSON.stringify({ path: name, size: 0, sha256: '', mark: null })}\n`)
        .join(''),
  ],
] as [string, () => Promise<string | Uint8Array>][]) {
  test(`a journal that ${lie} costs time, not truth`, async () => {
    const text = await lines()
    await writeFile(rig.file(JOURNAL), text)
    await expectMended()
  })

  test(`a journal to which was added one that ${lie} costs no truth either`, async () => {
    const text = await lines()
    await appendFile(rig.file(JOURNAL), text)
    await expectMended()
  })
}

for (const [what, markOf] of [
  ['another size', ([size, ...times]) => [size + 1n, ...times]],
  ['another time', ([size, time, ...rest]) => [size, time - 1n, ...rest]],
  ['another inode', ([size, time, inode, change]) => [size, time, inode + 1n, change]],
  ['another time of change', ([size, time, inode, change]) => [size, time, inode, change - 1n]],
  ['no time of change', ([size, time, inode]) => [size, time, inode]],
  ['zeros', () => [0, 0, 0, 0]],
  ['nothing', () => null],
  ['a word', () => 'mark'],
] as [string, (mark: [bigint, bigint, bigint, bigint]) => unknown][]) {
  test(`a file with other bytes, of which the journal has ${what}, is moved again`, async () => {
    await writeFile(rig.file('config.json'), flipped(body('config.json'), 100))
    const { size, mtimeNs, ino, ctimeNs } = await stat(rig.file('config.json'), { bigint: true })
    await appendFile(rig.file(JOURNAL), entry('config.json', markOf([size, mtimeNs, ino, ctimeNs])))
    await expectMended()
  })
}

test('what a repair that ends before its time found wrong, the next run does not trust', async () => {
  await writeFile(rig.file('config.json'), flipped(body('config.json'), 100))
  const { size, mtimeNs, ino, ctimeNs } = await stat(rig.file('config.json'), { bigint: true })
  await appendFile(rig.file(JOURNAL), entry('config.json', [size, mtimeNs, ino, ctimeNs]))
  const denied = rig.spaces.faults.add({
    match: spacesReads('config.json'),
    act: answer(403, {}, '<Error><Code>AccessDenied</Code></Error>'),
  })
  const end = await forks.run('download', { env: { REPAIR: 'true' } })
  denied.remove()
  expect(end, end.log).toMatchObject({ status: 64 })
  expect(denied.hits).toBeGreaterThan(0)
  await expectMended()
})

test('a journal that lists more files than the evidence of two commits is refused', async () => {
  const line = (index: number) => `{"path": "${index}", "size": 0, "sha256": "", "mark": null}\n`
  await appendFile(rig.file(JOURNAL), Array.from({ length: 20 }, (_, index) => line(index)).join(''))
  const end = await forks.run('download', { patch: 'import download_journal; download_journal.EVIDENCE_BYTES = 1000' })
  expect(end, end.log).toMatchObject({ status: 64, message: { cause: 'volume-obstacle' } })
  expect(end.message?.detail).toContain('lists more files')
  await expectMended()
})

test('a journal of any size still knows what was ours', async () => {
  await writeFile(rig.file('old-shard.safetensors'), 'of an earlier commit')
  const known = { path: 'old-shard.safetensors', size: 0, sha256: '', mark: null }
  const filler = `${' '.repeat(60_000)}\n`.repeat(1200)
  await writeFile(rig.file(JOURNAL), `${JSON.stringify(known)}\n${filler}${await readFile(rig.file(JOURNAL))}`)
  await expectMended()
})

test('a journal that is larger than any of ours is refused, not taken for empty', async () => {
  await truncate(rig.file(JOURNAL), 300 * 2 ** 20)
  await expectRefused()
})

for (const [what, spoil] of [
  ['wrong bytes at its start', (file: string) => writeAt(file, 0)],
  ['wrong bytes at its end', (file: string) => writeAt(file, PART + 1000)],
  ['more bytes than the file', (file: string) => truncate(file, body(WEIGHTS).length + 5_000_000)],
  ['as many bytes as the file, all zero', (file: string) => writeFile(file, new Uint8Array(body(WEIGHTS).length))],
  ['the whole file', (file: string) => writeFile(file, body(WEIGHTS))],
  ['nothing', (file: string) => truncate(file, 0)],
] as const) {
  test(`a partial that holds ${what} ends in the right file`, async () => {
    const file = rig.file(partial(WEIGHTS))
    await stat(file)
    await spoil(file)
    await expectMended()
  })
}

for (const [left, name] of [
  [partial(WEIGHTS), WEIGHTS],
  [partial('config.json'), 'config.json'],
  ['adapter.safetensors', 'adapter.safetensors'],
] as const) {
  const leave = async () => {
    if (name === 'config.json') await rename(rig.file(name), rig.file(left))
    await rm(rig.file(JOURNAL))
  }

  test(`${left} is read from the disk, not from a cache that may be ahead of it`, async () => {
    await leave()
    const { log } = await forks.mustRun('download', { patch: SHOW_CALLS })
    expect(callsOf(log, left).slice(0, 3)).toEqual(['fsync', 'posix_fadvise whole', 'preadv'])
    await rig.expectDownloaded(model)
  })

  test(`where ${left} cannot be read, the file is moved again`, async () => {
    await leave()
    const { ino } = await stat(rig.file(left))
    const patch = `
import os
preadv = os.preadv
def failing(descriptor, *args):
    if os.fstat(descriptor).st_ino == ${ino}:
        raise OSError(5, os.strerror(5))
    return preadv(descriptor, *args)
os.preadv = failing
`
    rig.moved()
    await forks.mustRun('download', { patch })
    expect(rig.moved().outOfBucket, 'all of it').toBeGreaterThanOrEqual(body(name).length)
    await rig.expectDownloaded(model)
  })
}

for (const [name, kept] of [
  [WEIGHTS, PART],
  ['config.json', 0],
] as const) {
  test(`what the disk refused of ${name} is cut off: the cache shows it still`, async () => {
    if (name === 'config.json') await rm(rig.file(name))
    const patch = `
import os
fsync, passed = os.fsync, []
def failing(descriptor):
    if os.readlink(f"/proc/self/fd/{descriptor}").endswith("${partial(name)}"):
        passed.append(descriptor)
        # Of what is left, one is there before it is read.
        if len(passed) > ${kept ? 1 : 0}:
            raise OSError(5, os.strerror(5))
    fsync(descriptor)
os.fsync = failing
`
    expect(await forks.run('download', { patch })).toMatchObject({ status: 1, message: { cause: 'volume-io' } })
    expect((await stat(rig.file(partial(name)))).size).toBe(kept)
    await expectMended()
  })
}

async function writeAt(file: string, offset: number): Promise<void> {
  await writeFile(file, flipped(await readFile(file), offset))
}

test('partials that nothing is waiting for go, and so do the folders that only they kept', async () => {
  for (const name of ['docs/old/gone.bin.0badcafe.partial', `${WEIGHTS}.01234567.partial`]) {
    await mkdir(path.dirname(rig.file(name)), { recursive: true })
    await writeFile(rig.file(name), 'left')
  }
  await writeFile(rig.file('.download-complete.0badcafe.partial'), '{')
  await writeFile(rig.file('config.json.x.partial'), 'not a name of ours')
  await expectMended(['config.json.x.partial'])
  await expect(stat(rig.file('docs/old'))).rejects.toThrow('ENOENT')
})

test('a whole but wrong partial of a small file is written again', async () => {
  await rm(rig.file('config.json'))
  await writeFile(rig.file(partial('config.json')), flipped(body('config.json'), 7))
  await expectMended()
})

test('a link in the place of a file is replaced, not followed', async () => {
  await rm(rig.file('config.json'))
  await symlink(victim, rig.file('config.json'))
  await expectMended()
  expect((await lstat(rig.file('config.json'))).isFile()).toBe(true)
})

for (const [what, put] of [
  ['a partial', () => link(partial(WEIGHTS))],
  ['the journal', () => link(JOURNAL)],
  ['the evidence', () => link('.download-complete')],
] as const) {
  test(`a link in the place of ${what} is refused by its name`, async () => {
    await put()
    await expectRefused()
  })
}

async function link(name: string): Promise<void> {
  await rm(rig.file(name), { force: true })
  await symlink(victim, rig.file(name))
}

test('a link that would lead a folder out of the model is refused before anything changes', async () => {
  const outside = path.join(rig.dir, 'outside')
  await mkdir(outside, { recursive: true })
  await rm(rig.file('docs'), { recursive: true })
  await symlink(outside, rig.file('docs'))
  await expectRefused()
  await expect(stat(path.join(outside, 'guide.md'))).rejects.toThrow('ENOENT')
  await rm(rig.file(''), { recursive: true })
  await symlink(outside, path.join(rig.volume, rig.model))
  await expectRefused()
  await expect(stat(path.join(outside, 'config.json'))).rejects.toThrow('ENOENT')
})

test("a file of somebody's where a folder has to be is refused before anything changes", async () => {
  await forks.mustRun('download')
  const evidence = await readFile(rig.file('.download-complete'))
  await rm(rig.file('docs'), { recursive: true })
  await writeFile(rig.file('docs'), "somebody's")
  await expectRefused()
  expect(await readFile(rig.file('.download-complete'))).toEqual(evidence)
})
