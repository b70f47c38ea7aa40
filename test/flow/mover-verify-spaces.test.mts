import { describe, expect } from 'vitest'
import { answer, flipByte, reads, runBefore } from '../local/faults.mts'
import type { HubRepo } from '../local/hub.mts'
import { seededBytes } from '../local/model.mts'
import { isChange, type SpacesRequest } from '../local/spaces.mts'
import { documentOf, evidenceOf, flipped, QUICK, type Rig, spacesReads, test } from './mover.mts'

const LARGE = 6_000_000
const SMALL = 2000
const model: HubRepo = {
  id: 'acme/checked',
  files: [
    { path: 'config.json', body: seededBytes('config', SMALL) },
    { path: 'empty.txt', body: Buffer.alloc(0) },
    { path: 'model.safetensors', body: seededBytes('model', LARGE) },
    { path: 'vocab.txt', body: seededBytes('vocab', SMALL) },
  ],
}
const SIZE = LARGE + 2 * SMALL

/** Flips a bit of an object under its evidence: size, time and ETag tell nothing. */
function rot(rig: Rig, name: string, offset: number): void {
  const object = rig.bucket.objects.get(rig.key(name))
  const body = model.files.find(({ path }) => path === name)?.body as Uint8Array
  rig.putObject(name, flipped(body, offset), 60)
  Object.assign(rig.bucket.objects.get(rig.key(name)) ?? {}, { etag: object?.etag })
}

describe.concurrent('verify-spaces', () => {
  test('a model that hop 1 changes at the same time is not called damaged', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    rig.spaces.faults.add({
      match: spacesReads('model.safetensors'),
      times: 1,
      act: runBefore(() => {
        rig.bucket.delete(rig.key('.upload-complete'))
        rig.putObject('model.safetensors', seededBytes('next', LARGE))
      }),
    })
    await rig.mustFail('verify-spaces', 1, 'spaces-unsteady', { env: { LEVEL: 'hashes' } })
  })

  test('an object that Spaces cannot hand out is named, and the others are looked at', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    rot(rig, 'vocab.txt', 0)
    rig.spaces.faults.add({ match: spacesReads('config.json'), act: answer(500) })
    const env = { LEVEL: 'hashes' }
    const { wrong } = await rig.mustFail('verify-spaces', 64, 'mismatch', { env, patch: QUICK })
    expect(wrong).toEqual(['config.json', 'vocab.txt'])
  })

  test('a bucket as it was staged, read and not changed', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    rig.spaces.rights.write = false
    for (const [LEVEL, bytes] of [
      ['names', 0],
      ['sizes', 0],
      ['hashes', SIZE],
    ] as const) {
      const { message, log } = await rig.mustRun('verify-spaces', { env: { LEVEL } })
      expect(log.includes('phase hashing'), 'nothing is called hashed that was not').toBe(LEVEL === 'hashes')
      expect(message).toMatchObject({ files: 4, bytes: SIZE, commit: 'c'.repeat(40), unknown: [] })
      expect(rig.moved().outOfBucket).toBe(bytes)
    }
    expect(rig.spaces.requests.filter(isChange)).toEqual([])
    expect(rig.hub.requests).toEqual([])
  })

  test('missing, wrong and unknown objects at each level', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    rig.bucket.delete(rig.key('vocab.txt'))
    rig.putObject('config.json', 'cut', 60)
    rot(rig, 'model.safetensors', LARGE - 1)
    rig.putObject('stray.bin', 'x', 60)
    rig.putObject('.upload-plan', 'x', 60)
    const found = async (LEVEL: string) => {
      const { missing, wrong, unknown, detail, next } = await rig.mustFail('verify-spaces', 64, 'mismatch', {
        env: { LEVEL },
      })
      expect(detail).toContain('Spaces')
      expect(next).toContain('make model-to-spaces')
      return { missing, wrong, unknown }
    }
    const [missing, unknown] = [['vocab.txt'], ['stray.bin']]
    expect(await found('names')).toEqual({ missing, wrong: [], unknown })
    expect(await found('sizes')).toEqual({ missing, wrong: ['config.json'], unknown })
    expect(await found('hashes')).toEqual({ missing, wrong: ['config.json', 'model.safetensors'], unknown })
  })

  test('what it finds, hop 1 mends with --repair, and moves only the bad ones', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    await rig.mustRun('upload')
    rot(rig, 'model.safetensors', 7)
    const { next } = await rig.mustFail('verify-spaces', 64, 'mismatch', { env: { LEVEL: 'hashes' } })
    expect(next).toContain('--repair')
    rig.moved()
    await rig.mustRun('upload', { env: { REPAIR: 'true' } })
    expect(rig.moved()).toEqual({ fromHub: LARGE, intoBucket: LARGE, outOfBucket: SIZE })
    await rig.expectUploaded(model)
    await rig.mustRun('verify-spaces', { env: { LEVEL: 'hashes' } })
  })

  test.for<[string, string | undefined]>([
    ['no evidence', undefined],
    ['empty evidence', ''],
    ['the evidence of another model', documentOf(evidenceOf({ ...model, id: 'acme/other' }))],
  ])('%s', async ([, sentinel], { newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    if (sentinel === undefined) rig.bucket.delete(rig.key('.upload-complete'))
    else rig.putObject('.upload-complete', sentinel, 30)
    const { next } = await rig.mustFail('verify-spaces', 64, 'no-evidence')
    expect(next).toContain('make model-to-spaces')
  })

  test('an object that is replaced while it is read is wrong', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const late = (request: SpacesRequest) => spacesReads('model.safetensors')(request) && reads(request, LARGE - 1)
    rig.spaces.faults.add({
      match: late,
      times: 1,
      act: ({ carryOut }) => {
        rig.putObject('model.safetensors', seededBytes('other', LARGE))
        return carryOut()
      },
    })
    const { wrong } = await rig.mustFail('verify-spaces', 64, 'mismatch', { env: { LEVEL: 'hashes' } })
    expect(wrong).toEqual(['model.safetensors'])
  })

  test('of an object that is newer than the evidence, its size says nothing', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const weights = model.files.find(({ path }) => path === 'model.safetensors')?.body as Uint8Array
    rig.putObject('model.safetensors', weights)
    await rig.mustRun('verify-spaces')
    expect(rig.moved().outOfBucket, 'only that one is read').toBe(LARGE)
    rig.putObject('model.safetensors', flipped(weights, 7))
    const { wrong } = await rig.mustFail('verify-spaces', 64, 'mismatch', { env: { LEVEL: 'sizes' } })
    expect(wrong).toEqual(['model.safetensors'])
  })

  test('a bit that flips on the way here is not held against the object', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const match = spacesReads('model.safetensors')
    rig.spaces.faults.add({ match, times: 1, act: flipByte(0) })
    await rig.mustRun('verify-spaces', { env: { LEVEL: 'hashes' } })
  })

  test('a sentinel too large to be evidence', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    rig.putObject('.upload-complete', Buffer.alloc(70 << 20), 30)
    for (const verb of ['verify-spaces', 'download'] as const) await rig.mustFail(verb, 64, 'no-evidence')
    const fetched = rig.spaces.requests.filter(({ key }) => key.endsWith('/.upload-complete'))
    expect(Math.max(...fetched.map(({ sent }) => sent)), 'bytes read').toBeLessThan(68 << 20)
    await rig.mustRun('upload')
    await rig.expectUploaded(model)
  })
})
