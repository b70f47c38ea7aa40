import { execFileSync } from 'node:child_process'
import { appendFile, chmod, chown, mkdir, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect, type onTestFinished } from 'vitest'
import { reads, runBefore } from '../local/faults.mts'
import type { HubRepo } from '../local/hub.mts'
import { seededBytes } from '../local/model.mts'
import { type Rig, spacesReads, test } from './mover.mts'

const MIB = 1 << 20
const weights = (seed: string): HubRepo => ({
  id: 'acme/heavy',
  files: [
    { path: 'config.json', body: seededBytes('config', 2000) },
    // Two parts.
    { path: 'model.safetensors', body: seededBytes(seed, 8 * MIB) },
  ],
})
const model = weights('first')

/** Runs the mover as root without the right to overrule owners and modes: as an ordinary user of somebody's volume. */
const AS_USER = ['setpriv', '--bounding-set=-dac_override,-dac_read_search,-fowner,-chown']
const isRoot = process.getuid?.() === 0

/** Whether this machine lets us mount: not in a container without the right. */
function canMount(): boolean {
  try {
    execFileSync('unshare', ['--mount', 'true'], { stdio: 'ignore' })
    return isRoot
  } catch {
    return false
  }
}

/** Mounts over the rig's volume until the test ends. */
function mountVolume(rig: Rig, args: string[], finished: typeof onTestFinished): void {
  execFileSync('mount', [...args, rig.volume])
  finished(() => {
    execFileSync('umount', ['--lazy', rig.volume])
  })
}

function tmpfs(rig: Rig, size: number, finished: typeof onTestFinished): void {
  mountVolume(rig, ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs'], finished)
}

function readOnly(rig: Rig, finished: typeof onTestFinished): void {
  mountVolume(rig, ['--bind', rig.volume], finished)
  execFileSync('mount', ['-o', 'remount,bind,ro', rig.volume])
}

/** Bytes of model files that hop 2 has read since the last call. */
const read = (rig: Rig) => rig.moved().outOfBucket

describe.skipIf(!canMount())('room', { concurrent: true }, () => {
  test('too little, seen before the first byte, with both numbers', async ({ newRig, onTestFinished }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    tmpfs(rig, 4 * MIB, onTestFinished)
    const { detail, next } = await rig.mustFail('download', 64, 'no-space')
    expect(detail).toContain(`${8 * MIB + 2000} B`)
    expect(detail).toMatch(/41\d{5} B are free/)
    expect(next).toContain('room')
    expect(read(rig)).toBe(0)
    expect(await rig.files()).toEqual([])
  })

  test('none at all: what goes makes it', async ({ newRig, onTestFinished }) => {
    const rig = await newRig({ models: [model] })
    const small = { id: model.id, files: model.files.slice(0, 1) }
    rig.stage(model)
    tmpfs(rig, 10 * MIB, onTestFinished)
    const fill = () =>
      expect(appendFile(path.join(rig.volume, 'filler'), Buffer.alloc(12 * MIB))).rejects.toThrow('ENOSPC')
    await rig.mustRun('download')
    await fill()
    rig.bucket.objects.clear()
    rig.stage(small, { commit: 'd'.repeat(40) })
    await rig.mustRun('download')
    await rig.expectDownloaded(small)
    expect(rig.moved().outOfBucket, 'what was there stays').toBe(8 * MIB + 2000)

    await fill()
    await rig.mustRun('clean-nfs', { env: { CONFIRMED: 'true' } })
    expect(await rig.files()).toEqual([])
  })

  test('what is there already needs none', async ({ newRig, onTestFinished }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    tmpfs(rig, 10 * MIB, onTestFinished)
    await rig.mustRun('download')
    await rm(rig.file('config.json'))
    await rm(rig.file('.download-complete'))
    await rig.mustRun('download')
    await rig.expectDownloaded(model)
  })

  test('what is removed first makes room', async ({ newRig, onTestFinished }) => {
    const rig = await newRig({ models: [model] })
    const [config, first] = model.files as [HubRepo['files'][number], HubRepo['files'][number]]
    rig.stage({ id: model.id, files: [config, { ...first, path: 'old.safetensors' }] })
    tmpfs(rig, 10 * MIB, onTestFinished)
    await rig.mustRun('download')
    rig.stage(model, { commit: 'd'.repeat(40) })
    await rig.mustRun('download')
    await rig.expectDownloaded(model)
  })

  test.for([
    ['evidence', true],
    ['no evidence', false],
  ] as const)(
    'a file of the same size to be replaced, with %s of what it is',
    async ([, known], { newRig, onTestFinished }) => {
      const rig = await newRig({ models: [model] })
      rig.stage(model)
      tmpfs(rig, 12 * MIB, onTestFinished)
      await rig.mustRun('download')
      if (!known) await rm(rig.file('.download-complete'))
      rig.stage(weights('second'), { commit: 'd'.repeat(40) })
      rig.moved()
      const { detail } = await rig.mustFail('download', 64, 'no-space')
      expect(detail).toContain(`${8 * MIB} B`)
      expect(read(rig)).toBe(0)
      // With evidence nothing was begun; without, its absence still says that the files are not proved.
      expect((await rig.files()).includes('.download-complete')).toBe(known)
    },
  )

  test('that goes in mid-run; the next run goes on behind what is there', async ({ newRig, onTestFinished }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    tmpfs(rig, 12 * MIB, onTestFinished)
    const filler = path.join(rig.volume, 'filler')
    rig.spaces.faults.add({
      match: (request) => spacesReads('model.safetensors')(request) && reads(request, 6 * MIB),
      times: 1,
      act: runBefore(() => writeFile(filler, Buffer.alloc(5 * MIB))),
    })
    const { detail } = await rig.mustFail('download', 64, 'no-space')
    expect(detail).toContain('model.safetensors')
    await rig.expectNotDownloaded()
    await rm(filler)
    rig.moved()
    await rig.mustRun('download')
    expect(read(rig)).toBeLessThan(8 * MIB)
    await rig.expectDownloaded(model)
  })
})

describe.skipIf(!canMount())('a volume that is read-only', { concurrent: true }, () => {
  test('and empty', async ({ newRig, onTestFinished }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    readOnly(rig, onTestFinished)
    await rig.mustFail('download', 64, 'read-only')
    expect(read(rig)).toBe(0)
  })

  test('and complete: there is nothing to do', async ({ newRig, onTestFinished }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    await rig.mustRun('download')
    readOnly(rig, onTestFinished)
    await rig.mustRun('download')
    await rig.mustRun('verify', { env: { LEVEL: 'hashes' } })
    rig.stage(weights('second'), { commit: 'd'.repeat(40) })
    rig.moved()
    await rig.mustFail('download', 64, 'read-only')
    expect(read(rig)).toBe(0)
    await rig.expectDownloaded(model)
  })
})

describe.skipIf(!isRoot)('a volume that belongs to somebody else', { concurrent: true }, () => {
  const SOMEBODY = 1234

  test('as a whole', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    await chown(rig.volume, SOMEBODY, SOMEBODY)
    const { next } = await rig.mustFail('download', 64, 'volume-denied', { via: AS_USER })
    expect(next).toContain('owner')
    expect(read(rig)).toBe(0)
  })

  test('where it may not even be looked at', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    await chown(rig.volume, SOMEBODY, SOMEBODY)
    await chmod(rig.volume, 0o700)
    for (const verb of ['download', 'verify'] as const) await rig.mustFail(verb, 64, 'volume-denied', { via: AS_USER })
  })

  test('one folder of the model', async ({ newRig }) => {
    const nested = { id: model.id, files: [{ path: 'nested/x.txt', body: Buffer.from('x') }, ...model.files] }
    const rig = await newRig({ models: [nested] })
    rig.stage(nested)
    await mkdir(rig.file('nested'), { recursive: true })
    await chown(rig.file('nested'), SOMEBODY, SOMEBODY)
    const { detail } = await rig.mustFail('download', 64, 'volume-denied', { via: AS_USER })
    expect(detail).toContain('nested/x.txt')
    await rig.expectNotDownloaded()
  })

  test('a folder beside the model: nobody knows it', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    await mkdir(rig.file('lost+found'), { recursive: true })
    await chown(rig.file('lost+found'), SOMEBODY, SOMEBODY)
    await chmod(rig.file('lost+found'), 0o700)
    await rig.mustRun('download', { via: AS_USER })
    const { message } = await rig.mustRun('verify', { via: AS_USER })
    expect(message?.unknown).toEqual(['lost+found'])
    const clean = await rig.mustRun('clean-nfs', { via: AS_USER, env: { CONFIRMED: 'true' } })
    expect(clean.message).toMatchObject({ files: 2, unknown: ['lost+found'] })
  })

  test('one that holds files of the model: nothing is removed', async ({ newRig }) => {
    const nested = { id: model.id, files: [{ path: 'nested/x.txt', body: Buffer.from('x') }, ...model.files] }
    const rig = await newRig({ models: [nested] })
    rig.stage(nested)
    await rig.mustRun('download')
    await chown(rig.file('nested'), SOMEBODY, SOMEBODY)
    await chmod(rig.file('nested'), 0o700)
    await rig.mustFail('clean-nfs', 64, 'volume-denied', { via: AS_USER, env: { CONFIRMED: 'true' } })
    await rig.expectDownloaded(nested)
  })

  test('one file of the model: it is replaced', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    await rig.mustRun('download')
    await writeFile(rig.file('config.json'), 'not ours')
    await chown(rig.file('config.json'), SOMEBODY, SOMEBODY)
    await chmod(rig.file('config.json'), 0o600)
    await rig.mustRun('download', { via: AS_USER })
    await rig.expectDownloaded(model)
  })
})

describe.concurrent('what the server behind the volume says', () => {
  const failing = (call: string, errno: string, where = '') => `
import errno, os
real_${call} = os.${call}
def failing(*args, **options):
    if ${where || 'True'}:
        raise OSError(errno.${errno}, os.strerror(errno.${errno}))
    return real_${call}(*args, **options)
os.${call} = failing
`
  test.for([
    ['pwrite', 'ENOSPC', 64, 'no-space'],
    ['pwrite', 'EDQUOT', 64, 'no-space'],
    ['pwrite', 'EFBIG', 64, 'no-space'],
    ['pwrite', 'EIO', 1, 'volume-io'],
    ['fsync', 'ENOSPC', 64, 'no-space'],
    ['fsync', 'EIO', 1, 'volume-io'],
    ['fsync', 'ESTALE', 1, 'volume-io'],
    ['replace', 'ESTALE', 1, 'volume-io'],
    ['replace', 'EPERM', 64, 'volume-denied'],
    ['replace', 'EROFS', 64, 'read-only'],
    ['statvfs', 'ESTALE', 1, 'volume-io'],
  ] as const)('%s: %s', async ([call, errno, code, cause], { newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    await rig.mustFail('download', code, cause, { patch: failing(call, errno) })
    await rig.expectNotDownloaded()
    await rig.mustRun('download')
    await rig.expectDownloaded(model)
  })

  test('open: EROFS', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    await rig.mustFail('download', 64, 'read-only', { patch: failing('open', 'EROFS', 'args[1] & os.O_CREAT') })
    expect(read(rig)).toBe(0)
  })

  test('4 MiB are free', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const patch = `
import os
real_statvfs = os.statvfs
def almost_full(path):
    values = list(real_statvfs(path))
    values[1:5] = 4096, 10**6, 2048, 1024
    return os.statvfs_result(values)
os.statvfs = almost_full
`
    const { detail } = await rig.mustFail('download', 64, 'no-space', { patch })
    expect(detail).toContain(`${8 * MIB + 2000} B are needed and ${4 * MIB} B are free`)
    expect(read(rig)).toBe(0)
    expect(await rig.files()).toEqual([])
  })

  test('a server that keeps a removed file while it is open: no folder stays for it', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const name = rig.file('old/model.safetensors.01234567.partial')
    await mkdir(path.dirname(name), { recursive: true })
    await writeFile(name, 'left')
    const patch = `
import os
unlink, close, kept = os.unlink, os.close, {}
def unlink_as_nfs(path, **options):
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{descriptor}") == os.fspath(path):
                kept[int(descriptor)] = os.path.join(os.path.dirname(path), ".nfs0001")
                return os.rename(path, kept[int(descriptor)])
        except FileNotFoundError:
            continue
    unlink(path, **options)
def close_as_nfs(descriptor):
    close(descriptor)
    if descriptor in kept:
        unlink(kept.pop(descriptor))
os.unlink, os.close = unlink_as_nfs, close_as_nfs
`
    await rig.mustRun('download', { patch })
    await rig.expectDownloaded(model)
    await expect(stat(rig.file('old'))).rejects.toThrow('ENOENT')
  })

  test('a read error while files are hashed', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    await rig.mustRun('download')
    const { detail } = await rig.mustFail('verify', 1, 'volume-io', {
      env: { LEVEL: 'hashes' },
      patch: failing('preadv', 'EIO'),
    })
    expect(detail).toMatch(/config.json|model.safetensors/)
    await rig.mustRun('verify', { env: { LEVEL: 'hashes' } })
  })

  test('a mount that knows no locks', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const patch = `
import errno, fcntl, os
def no_locks(*args):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
fcntl.flock = no_locks
`
    await rig.mustRun('download', { patch })
    await rig.expectDownloaded(model)
  })

  test('a termination log that cannot be written does not change how a run ends', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const patch = 'import os; os.environ["TERMINATION_LOG"] = "/nowhere/log"'
    const mover = rig.startMover('download', { patch })
    await mover.says(/could not write \/nowhere\/log/)
    await mover.end.catch(() => undefined)
    await rig.expectDownloaded(model)
    expect((await stat(rig.file('.download-complete'))).size).toBeGreaterThan(0)
  })
})
