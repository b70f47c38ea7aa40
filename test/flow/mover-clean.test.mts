import { mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect } from 'vitest'
import { dieAfter, dieBefore } from '../local/faults.mts'
import { isChange, type SpacesRequest } from '../local/spaces.mts'
import { evidenceOf, mixedModel, type Rig, test } from './mover.mts'
import { filesBelow } from './proof.mts'

const model = mixedModel()
const sibling = mixedModel('sibling', `${model.id}-2`)
const CONFIRMED = { env: { CONFIRMED: 'true' } }
const count = model.files.length
const bytes = evidenceOf(model).files.reduce((sum, { size }) => sum + size, 0)

/** Both copies of a model and of its sibling. */
async function stageBoth(rig: Rig): Promise<void> {
  for (const repo of [sibling, model]) {
    const env = { MODEL: repo.id }
    await rig.mustRun('upload', { env })
    await rig.mustRun('download', { env })
  }
}

/** The loops of kills need few files, and each kind of leftover. */
const tiny = { id: 'acme/tiny', files: model.files.filter(({ path: name }) => /^(config|adapter)/.test(name)) }

const keys = (rig: Rig) => [...rig.bucket.objects.keys()].sort()
const siblingKeys = ['.upload-complete', ...sibling.files.map((file) => file.path)].map(
  (name) => `models/${sibling.id}/${name}`,
)
const siblingFiles = ['.download-complete', ...sibling.files.map((file) => file.path)]

const filesOf = (rig: Rig, id: string) => filesBelow(path.join(rig.volume, id))

test('says what it would remove, and changes nothing unless that is confirmed', async ({ newRig }) => {
  const rig = await newRig({ models: [model, sibling] })
  await stageBoth(rig)
  const before = [keys(rig), await filesOf(rig, '.')]
  rig.spaces.requests.length = 0
  for (const verb of ['clean-spaces', 'clean-nfs'] as const) {
    const end = await rig.mustRun(verb)
    expect(end.message).toMatchObject({ files: count, bytes, leftovers: 1, unknown: [], unknown_files: 0, moved: 0 })
  }
  expect(rig.spaces.requests.filter(isChange)).toEqual([])
  expect([keys(rig), await filesOf(rig, '.')]).toEqual(before)
})

test('removes what the evidence lists and its own leftovers, names the rest, and touches no sibling', async ({
  newRig,
}) => {
  const rig = await newRig({ models: [model, sibling] })
  await stageBoth(rig)
  rig.putObject('notes/mine.txt', 'not ours')
  rig.putObject('.upload-suspect', '{"paths": []}')
  await mkdir(rig.file('notes'))
  await writeFile(rig.file('notes/mine.txt'), 'not ours')
  await writeFile(rig.file('model.safetensors.01234567.partial'), 'half')
  await writeFile(rig.file('others.bin.01234567.partial'), 'not of a listed file')
  rig.spaces.requests.length = 0

  const spaces = await rig.mustRun('clean-spaces', CONFIRMED)
  expect(spaces.message).toMatchObject({ files: count, bytes, leftovers: 2, unknown: ['notes/mine.txt'] })
  expect(spaces.log).toContain('left alone notes/mine.txt')
  expect(keys(rig)).toEqual([...siblingKeys, rig.key('notes/mine.txt')].sort())
  const changes = rig.spaces.requests.filter(isChange)
  expect(changes.slice(0, 2).map(({ operation, key }) => `${operation} ${key}`)).toEqual([
    `PutObject ${rig.key('.upload-plan')}`,
    `DeleteObject ${rig.key('.upload-complete')}`,
  ])
  expect(changes.filter(({ operation }) => operation === 'DeleteObjects')).toEqual([])

  const nfs = await rig.mustRun('clean-nfs', CONFIRMED)
  const left = ['notes/mine.txt', 'others.bin.01234567.partial']
  expect(nfs.message).toMatchObject({ files: count, bytes, leftovers: 2, unknown: left, unknown_files: 2 })
  expect(await rig.files()).toEqual(left)
  expect(await filesOf(rig, sibling.id)).toEqual([...siblingFiles].sort())
})

test('again, there is nothing left to remove; of the last model of an organisation no folder stays', async ({
  newRig,
}) => {
  const rig = await newRig({ models: [model] })
  rig.stage(model)
  await rig.mustRun('download')
  for (const verb of ['clean-spaces', 'clean-nfs'] as const) {
    await rig.mustRun(verb, CONFIRMED)
    const again = await rig.mustRun(verb, CONFIRMED)
    expect(again.message).toMatchObject({ files: 0, bytes: 0, leftovers: 0, unknown_files: 0 })
  }
  expect(keys(rig)).toEqual([])
  expect(await readdir(rig.volume)).toEqual([])
})

test('says that it is not gone when another run writes it again meanwhile', async ({ newRig }) => {
  const rig = await newRig({ models: [tiny] })
  rig.stage(tiny)
  await rig.mustRun('download')
  // The last change of each removal: by then everything else is gone.
  rig.spaces.faults.add({
    match: ({ operation, key }) => operation === 'DeleteObject' && key.endsWith('.upload-plan'),
    act: ({ carryOut }) => {
      rig.putObject('config.json', 'of another run')
      return carryOut()
    },
  })
  const spaces = await rig.mustFail('clean-spaces', 1, 'not-removed', CONFIRMED)
  expect(spaces.detail).toBe('there again: 1 of what was removed from Spaces, such as config.json')

  const patch = `
import volume
remove_empty = volume.Volume.remove_empty
def and_write_again(self):
    with open(self.folder / "config.json", "w") as file:
        file.write("of another run")
    remove_empty(self)
volume.Volume.remove_empty = and_write_again`
  const nfs = await rig.mustFail('clean-nfs', 1, 'not-removed', { ...CONFIRMED, patch })
  expect(nfs.detail).toBe('there again: 1 of what was removed from the volume, such as config.json')
})

describe('after a kill at any point', () => {
  for (const [how, die] of [
    ['before', dieBefore],
    ['after', dieAfter],
  ] as const) {
    test(`${how} each change of the bucket, the next run ends the work, or an upload begins anew`, async ({
      newRig,
    }) => {
      const rig = await newRig({ models: [tiny] })
      for (let point = 1; ; point += 1) {
        rig.stage(tiny)
        rig.putObject('mine.txt', 'not ours')
        rig.putObject('.upload-suspect', '{"paths": []}')
        const mover = rig.startMover('clean-spaces', CONFIRMED)
        let seen = 0
        const match = (request: SpacesRequest) => isChange(request) && ++seen === point
        rig.spaces.faults.add({ match, act: die(() => mover.kill()) })
        const { signal } = await mover.end
        rig.spaces.faults.clear()
        if (!signal) {
          expect(point, 'the loop saw every change').toBeGreaterThan(tiny.files.length + 3)
          expect(rig.objects()).toEqual(['mine.txt'])
          return
        }
        if (point > 2 || (point === 2 && how === 'after')) rig.expectNotUploaded()
        if (point % 2) {
          await rig.mustRun('upload')
          await rig.expectUploaded(tiny, ['mine.txt'])
        }
        const { message } = await rig.mustRun('clean-spaces', CONFIRMED)
        expect(message).toMatchObject({ unknown: ['mine.txt'] })
        expect(rig.objects()).toEqual(['mine.txt'])
      }
    })
  }

  test('between each two changes of the volume, the next run ends the work, or a download begins anew', async ({
    newRig,
  }) => {
    const rig = await newRig({ models: [tiny] })
    rig.stage(tiny)
    for (let point = 1; ; point += 1) {
      await rig.mustRun('download')
      await writeFile(rig.file('mine.txt'), 'not ours')
      await writeFile(rig.file('config.json.01234567.partial'), 'half')
      const { signal } = await rig.runMover('clean-nfs', { ...CONFIRMED, patch: dieAtChange(point) })
      if (!signal) {
        expect(point, 'the loop saw every change').toBeGreaterThan(tiny.files.length + 3)
        expect(await rig.files()).toEqual(['mine.txt'])
        return
      }
      if (point > 2) await rig.expectNotDownloaded()
      if (point % 2) {
        await rig.mustRun('download')
        await rig.expectDownloaded(tiny, ['mine.txt'])
      }
      const { message } = await rig.mustRun('clean-nfs', CONFIRMED)
      expect(message).toMatchObject({ unknown: ['mine.txt'] })
      expect(await rig.files()).toEqual(['mine.txt'])
    }
  })
})

/** Python that kills its process in place of its change of this number. */
function dieAtChange(point: number): string {
  return `
import os
left = ${point}
def dying(change):
    def wrapped(*args, **kwargs):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), 9)
        return change(*args, **kwargs)
    return wrapped
for name in ("unlink", "rmdir", "replace", "fsync"):
    setattr(os, name, dying(getattr(os, name)))`
}

test('an upload that was killed leaves nothing that cannot be removed', async ({ newRig }) => {
  const rig = await newRig({ models: [model] })
  const mover = rig.startMover('upload')
  const match = ({ operation, key }: SpacesRequest) =>
    operation === 'CompleteMultipartUpload' && key.endsWith('/model.safetensors')
  rig.spaces.faults.add({ match, act: dieBefore(() => mover.kill()) })
  expect((await mover.end).signal).toBe('SIGKILL')
  rig.spaces.faults.clear()
  expect(rig.objects()).toEqual(expect.arrayContaining(['.upload-plan', 'config.json']))

  const { size } = rig.bucket.uploads
  expect(size, 'of the large files, one or both').toBeGreaterThan(0)

  const young = await rig.mustRun('clean-spaces', CONFIRMED)
  expect(young.message).toMatchObject({ uploads: 0, young_uploads: size })
  expect(rig.objects(), 'what says whose the unfinished uploads are').toEqual(['.upload-plan'])
  expect(rig.bucket.uploads.size).toBe(size)

  const old = new Date(Date.now() - 16 * 60_000)
  for (const upload of rig.bucket.uploads.values()) {
    upload.initiated = old
    for (const part of upload.parts.values()) part.lastModified = old
  }
  const end = await rig.mustRun('clean-spaces', CONFIRMED)
  expect(end.message).toMatchObject({ uploads: size, young_uploads: 0 })
  expect(rig.bucket.uploads.size).toBe(0)
  expect(rig.objects()).toEqual([])
})

test('a download that was killed leaves nothing that cannot be removed', async ({ newRig }) => {
  const rig = await newRig({ models: [model] })
  rig.stage(model)
  const mover = rig.startMover('download')
  const match = ({ operation, key }: SpacesRequest) => operation === 'GetObject' && key.endsWith('/model.safetensors')
  rig.spaces.faults.add({ match, act: dieBefore(() => mover.kill()) })
  expect((await mover.end).signal).toBe('SIGKILL')
  expect(await rig.files()).toEqual(expect.arrayContaining(['.download-journal', 'config.json']))
  await rig.mustRun('clean-nfs', CONFIRMED)
  expect(await rig.files()).toEqual([])
})

test('folders that a listed file has left empty go too', async ({ newRig }) => {
  const nested = { ...tiny, files: [...tiny.files, { path: 'deep/er/x.txt', body: Buffer.from('x') }] }
  const rig = await newRig({ models: [nested] })
  rig.stage(nested)
  await rig.mustRun('download')
  await rm(rig.file('deep/er/x.txt'))
  await rig.mustRun('clean-nfs', CONFIRMED)
  expect(await readdir(rig.volume)).toEqual([])
})

test('where nothing says what is the model’s, nothing is removed', async ({ newRig }) => {
  const rig = await newRig({ models: [model] })
  for (const body of ['', JSON.stringify(evidenceOf({ ...model, id: 'acme/another' }))]) {
    rig.putObject('.upload-complete', body)
    rig.putObject('config.json', 'theirs')
    await mkdir(rig.file('.'), { recursive: true })
    await writeFile(rig.file('.download-complete'), body)
    await writeFile(rig.file('config.json'), 'theirs')
    const spaces = await rig.mustRun('clean-spaces', CONFIRMED)
    expect(spaces.message).toMatchObject({ files: 0, leftovers: 0, unknown: ['.upload-complete', 'config.json'] })
    const nfs = await rig.mustRun('clean-nfs', CONFIRMED)
    expect(nfs.message).toMatchObject({ files: 0, leftovers: 0, unknown: ['.download-complete', 'config.json'] })
    expect(rig.objects()).toEqual(['.upload-complete', 'config.json'])
    expect(await rig.files()).toEqual(['.download-complete', 'config.json'])
  }
})

test('a model whose name is another one’s organisation keeps to its own', async ({ newRig }) => {
  const outer = mixedModel('outer', 'acme')
  const rig = await newRig({ models: [model, outer] })
  await rig.mustRun('upload')
  await rig.mustRun('download')
  await writeFile(rig.file('model.safetensors.01234567.partial'), 'of a run that lives')
  const upload = rig.bucket.startUpload(rig.key('more.bin'), {})
  upload.initiated = new Date(0)
  const before = [rig.objects(), await rig.files()]
  const env = { MODEL: outer.id }
  await rig.mustRun('upload', { env })
  rig.bucket.startUpload(rig.key('more.bin'), {}).initiated = new Date(0)
  for (const verb of ['clean-spaces', 'clean-nfs'] as const)
    await rig.mustRun(verb, { env: { ...env, CONFIRMED: 'true' } })
  expect([rig.objects(), await rig.files()]).toEqual(before)
  expect([...rig.bucket.uploads.values()].map(({ key }) => key)).toContain(rig.key('more.bin'))
})

test('a link in place of the model’s folder is not followed', async ({ newRig }) => {
  const rig = await newRig({ models: [model] })
  rig.stage(model)
  await rig.mustRun('download')
  await mkdir(path.join(rig.volume, 'other'))
  await symlink(path.join(rig.volume, model.id), path.join(rig.volume, 'other/link'))
  const env = { MODEL: 'other/link', CONFIRMED: 'true' }
  const body = (await readFile(rig.file('.download-complete'), 'utf8')).replace(model.id, 'other/link')
  await writeFile(rig.file('.download-complete'), body)
  await rig.mustFail('clean-nfs', 64, 'volume-obstacle', { env })
  expect(await rig.files()).toHaveLength(count + 1)
})
