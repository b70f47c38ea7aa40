import { readFile } from 'node:fs/promises'
import { describe, expect } from 'vitest'
import {
  answer,
  cut,
  type Fault,
  flipByte,
  ignoreRange,
  reads,
  runBefore,
  shiftRange,
  shorten,
  stall,
} from '../local/faults.mts'
import type { SpacesRequest } from '../local/spaces.mts'
import { flipped, impatient, mixedModel, QUICK, type Rig, spacesReads, test } from './mover.mts'

const model = mixedModel()
const KINDS = [
  ['a small file', 'config.json', 700],
  ['a large file', 'model.safetensors', 7_000_000],
] as const
const LARGE = KINDS.slice(1)
const HTML = { 'content-type': 'text/html' }
const SIZE = 18_032_000

/** Makes each kind of object fail at one of its bytes. */
function strike(
  rig: Rig,
  kinds: readonly (typeof KINDS)[number][],
  fault: (offset: number) => Omit<Fault<SpacesRequest>, 'match'>,
) {
  return kinds.map(([, name, offset]) => {
    const isRead = spacesReads(name)
    return rig.spaces.faults.add({ match: (request) => isRead(request) && reads(request, offset), ...fault(offset) })
  })
}

function expectFaults(handles: ReturnType<typeof strike>): void {
  expect(handles.map(({ hits }) => hits)).toEqual(handles.map(() => 1))
}

describe.concurrent('wrong bytes from Spaces once: the file is fetched again and ends right', () => {
  test('a flipped bit', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const faults = strike(rig, KINDS, (offset) => ({ times: 1, act: flipByte(offset) }))
    const { message } = await rig.mustRun('download')
    expectFaults(faults)
    await rig.expectDownloaded(model)
    expect(message?.moved, 'bytes that were kept').toBe(SIZE)
    expect(rig.objects(), 'word for hop 1').not.toContain('.upload-suspect')
  })

  test.for([
    ['a short body whose length matches what it announces', KINDS, shorten(600)],
    ['a body that breaks off', KINDS, cut(600)],
    ['a connection that closes without an answer', KINDS, cut()],
    ['a body on which no byte moves', KINDS, stall(600)],
    ['an answer that does not begin', KINDS, stall()],
    ['another range than the asked one', LARGE, shiftRange(1000)],
    ['200 and the whole file for a range', LARGE, ignoreRange()],
    ['an HTML page with status 200', KINDS, answer(200, HTML, '<html>try later</html>')],
    ['an HTML page just as long as the file', KINDS.slice(0, 1), answer(200, HTML, '<html>'.padEnd(2000, '.'))],
    ['an error whose body breaks off', KINDS, brokenError()],
  ] as const)('%s', async ([, kinds, act], { newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    const faults = strike(rig, kinds, () => ({ times: 1, act }))
    await rig.mustRun('download', { patch: impatient() })
    expectFaults(faults)
    await rig.expectDownloaded(model)
  })

  test('a flipped bit in the evidence', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    const evidence = rig.stage(model)
    const offset = JSON.stringify(evidence, null, 2).indexOf(evidence.commit)
    const match = spacesReads('.upload-complete')
    const fault = rig.spaces.faults.add({ match, times: 1, act: flipByte(offset) })
    await rig.mustRun('download', { patch: QUICK })
    expect(fault.hits).toBe(1)
    await rig.expectDownloaded(model)
    expect(await readFile(rig.file('.download-complete'), 'utf8')).toContain(evidence.commit)
  })
})

function brokenError(): ReturnType<typeof answer> {
  return async (exchange) => ({
    ...(await answer(503, {}, '<Error><Code>SlowDown</Code></Error>')(exchange)),
    broken: { how: 'cut', after: 10 },
  })
}

describe.concurrent('wrong bytes from Spaces that stay', () => {
  for (const kind of KINDS) {
    const [label, name, offset] = kind
    test(`a flipped bit in ${label}`, async ({ newRig }) => {
      const rig = await newRig({ models: [model] })
      rig.stage(model)
      const [fault] = strike(rig, [kind], () => ({ act: flipByte(offset) }))
      const { detail, next } = await rig.mustFail('download', 64, 'wrong-bytes')
      expect(detail).toContain('Spaces')
      expect(detail).toContain(name)
      expect(next).toContain('make model-to-spaces')
      expect(fault?.hits, 'fetched again once').toBe(2)
      await rig.expectNotDownloaded()
      expect(await rig.files(), 'the wrong file').not.toContain(name)
    })
  }

  test.for([
    ['short bodies', shorten(600), 64, 'wrong-answer'],
    ['bodies that break off', cut(600), 1, 'short-body'],
    ['no answers', cut(), 1, 'connection'],
    ['bodies on which no byte moves', stall(600), 1, 'stalled'],
    ['an HTML page with status 200', answer(200, HTML, '<html>try later</html>'), 64, 'wrong-answer'],
    ['another range', shiftRange(1000), 64, 'wrong-answer'],
    ['200 for a range', ignoreRange(), 64, 'wrong-answer'],
  ] as const)('%s', async ([, act, code, cause], { newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    strike(rig, LARGE, () => ({ act }))
    const { detail } = await rig.mustFail('download', code, cause, {
      patch: cause === 'stalled' ? impatient(0.2) : QUICK,
    })
    expect(detail).toContain('Spaces')
    await rig.expectNotDownloaded()
    expect(await rig.files()).not.toContain('model.safetensors')
  })
})

describe.concurrent('no dead end', () => {
  for (const [label, name, offset] of KINDS) {
    test(`${label} that rots in Spaces under its evidence: hop 2 finds it, hop 1 mends it`, async ({ newRig }) => {
      const rig = await newRig({ models: [model] })
      await rig.mustRun('upload')
      const body = (await rig.object(name)) as Buffer
      const { etag } = rig.bucket.objects.get(rig.key(name)) as { etag: string }
      rig.putObject(name, flipped(body, offset), 60)
      Object.assign(rig.bucket.objects.get(rig.key(name)) as object, { etag })
      rig.moved()
      await rig.mustRun('upload')
      expect(rig.moved(), 'nothing tells hop 1').toEqual({ fromHub: 0, intoBucket: 0, outOfBucket: 0 })

      await rig.mustFail('download', 64, 'wrong-bytes')
      await rig.expectNotDownloaded()
      rig.moved()
      await rig.mustRun('upload')
      expect(rig.moved(), 'one file').toEqual({
        fromHub: body.length,
        intoBucket: body.length,
        outOfBucket: body.length,
      })
      await rig.expectUploaded(model)
      await rig.mustRun('download')
      await rig.expectDownloaded(model)
    })
  }

  test('where hop 2 may not leave word, it names --repair', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    await rig.mustRun('upload')
    rig.putObject('config.json', flipped((await rig.object('config.json')) as Buffer, 7), 60)
    rig.spaces.rights.write = false
    const { next } = await rig.mustFail('download', 64, 'wrong-bytes')
    expect(next).toContain('make model-to-spaces')
    expect(next).toContain('--repair')
    rig.spaces.rights.write = true
    await rig.mustRun('upload', { env: { REPAIR: 'true' } })
    await rig.expectUploaded(model)
    await rig.mustRun('download')
    await rig.expectDownloaded(model)
  })

  for (const [label, name] of KINDS) {
    test(`${label} that Spaces lists and cannot hand out: hop 1 moves it again`, async ({ newRig }) => {
      const rig = await newRig({ models: [model] })
      await rig.mustRun('upload')
      const broken = rig.bucket.objects.get(rig.key(name))
      rig.spaces.faults.add({
        match: (request) => spacesReads(name)(request) && rig.bucket.objects.get(request.key) === broken,
        act: answer(500, {}, '<Error><Code>UnknownError</Code></Error>'),
      })
      const { detail, next } = await rig.mustFail('download', 1, 'spaces-error', { patch: QUICK })
      expect(detail).toContain(name)
      expect(next).toContain('make model-to-spaces')
      await rig.mustRun('upload', { patch: QUICK })
      await rig.expectUploaded(model)
      await rig.mustRun('download')
      await rig.expectDownloaded(model)
    })
  }

  test('an object replaced while hop 2 reads it', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    await rig.mustRun('upload')
    const body = (await rig.object('model.safetensors')) as Buffer
    const isRead = spacesReads('model.safetensors')
    rig.spaces.faults.add({
      match: (request) => isRead(request) && reads(request, 11_000_000),
      times: 1,
      act: runBefore(() => rig.putObject('model.safetensors', flipped(body, 100))),
    })
    const { detail } = await rig.mustFail('download', 1, 'spaces-unsteady')
    expect(detail).toContain('model.safetensors')
    await rig.expectNotDownloaded()
    await rig.mustRun('upload')
    await rig.expectUploaded(model)
    await rig.mustRun('download')
    await rig.expectDownloaded(model)
  })

  const other = mixedModel('other')
  test.for([
    ['between the evidence and the list', 'ListObjects', other],
    ['between the evidence and the list, with files gone', 'ListObjects', { ...other, files: other.files.slice(0, 1) }],
    ['between the list and the files', 'GetObject', other],
  ] as const)('a model that another run changes, %s', async ([, operation, changed], { newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    rig.spaces.faults.add({
      match: (request) => request.operation === operation && !request.key.endsWith('/.upload-complete'),
      times: 1,
      act: runBefore(() => {
        for (const name of rig.objects()) rig.bucket.delete(rig.key(name))
        rig.stage(changed as typeof other, { commit: 'd'.repeat(40) })
      }),
    })
    await rig.mustFail('download', 1, 'spaces-unsteady')
    await rig.expectNotDownloaded()
    expect(rig.objects()).not.toContain('.upload-suspect')
    await rig.mustRun('download')
    await rig.expectDownloaded(changed as typeof other)
  })
})
