import { describe, expect } from 'vitest'
import {
  type Act,
  answer,
  cut,
  flipByte,
  ignoreRange,
  inChunks,
  reads,
  shiftRange,
  shorten,
  stall,
  trickle,
} from '../local/faults.mts'
import type { SeenRequest } from '../local/http.mts'
import type { HubRequest } from '../local/hub.mts'
import { seededBytes } from '../local/model.mts'
import type { SpacesRequest } from '../local/spaces.mts'
import { hubReads, impatient, mixedModel, QUICK, type Rig, test } from './mover.mts'
import { sha256 } from './proof.mts'

const model = mixedModel()
const KINDS = [
  ['a small git file', 'config.json', 700],
  ['a small LFS file', 'adapter.safetensors', 20_000],
  ['a large git file', 'tokenizer.json', 5_500_000],
  ['a large LFS file', 'model.safetensors', 7_000_000],
] as const
const LARGE = KINDS.slice(2)
const HTML = { 'content-type': 'text/html' }

type Fault = Parameters<Rig['hub']['faults']['add']>[0]

/** Makes each kind of file fail at one of its bytes. */
function strike(rig: Rig, kinds: readonly (typeof KINDS)[number][], fault: (offset: number) => Omit<Fault, 'match'>) {
  return kinds.map(([, name, offset]) => {
    const isRead = hubReads(model, name)
    const match = (request: HubRequest) => isRead(request) && reads(request, offset)
    return rig.hub.faults.add({ match, ...fault(offset) })
  })
}

function expectFaults(handles: ReturnType<typeof strike>): void {
  expect(handles.map(({ hits }) => hits)).toEqual(handles.map(() => 1))
}

describe.concurrent('odd answers with the right bytes: nothing is fetched again', () => {
  test('a body of unknown length', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    strike(rig, KINDS, () => ({ act: inChunks() }))
    await rig.mustRun('upload')
    await rig.expectUploaded(model)
    expect(rig.moved().fromHub).toBe(18_032_000)
  })

  test('a link on which the time of a stall brings less than is read at once', async ({ newRig }) => {
    const one = { id: 'acme/one', files: [{ path: 'x.bin', body: seededBytes('x', 1_500_000) }] }
    const rig = await newRig({ models: [one] })
    // 32 KiB a fifth of a second: 512 KiB take 3.2 s.
    rig.hub.faults.add({ match: hubReads(one, 'x.bin'), act: trickle(20, 2 ** 15, 200) })
    await rig.mustRun('upload', { patch: impatient(2.5) })
    await rig.expectUploaded(one)
    expect(rig.moved().fromHub).toBe(1_500_000)
  })
})

describe.concurrent('wrong bytes from the Hub once: the file is fetched again and ends right', () => {
  test('a flipped bit', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    const faults = strike(rig, KINDS, (offset) => ({ times: 1, act: flipByte(offset) }))
    const { message } = await rig.mustRun('upload')
    expectFaults(faults)
    await rig.expectUploaded(model)
    expect(message?.moved, 'bytes that were kept').toBe(18_032_000)
    expect(rig.moved().fromHub, 'all of every file twice').toBe(2 * 18_032_000)
  })

  test('a short body whose length matches what it announces', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    const faults = strike(rig, KINDS, () => ({ times: 1, act: shorten(600) }))
    await rig.mustRun('upload', { patch: QUICK })
    expectFaults(faults)
    await rig.expectUploaded(model)
    expect(rig.moved().fromHub, 'only the short parts again').toBe(18_032_000 + 4 * 600)
  })

  test.for([
    ['a body that breaks off', cut(600)],
    ['a body of unknown length that breaks off', inChunks(600)],
    ['a connection that closes without an answer', cut()],
  ] as const)('%s', async ([, act], { newRig }) => {
    const rig = await newRig({ models: [model] })
    const faults = strike(rig, KINDS, () => ({ times: 1, act }))
    await rig.mustRun('upload', { patch: QUICK })
    expectFaults(faults)
    await rig.expectUploaded(model)
  })

  test.for([
    ['a body on which no byte moves', 600],
    ['an answer that does not begin', undefined],
  ] as const)('%s', async ([, after], { newRig }) => {
    const rig = await newRig({ models: [model] })
    const faults = strike(rig, KINDS, () => ({ times: 1, act: stall(after) }))
    await rig.mustRun('upload', { patch: impatient() })
    expectFaults(faults)
    await rig.expectUploaded(model)
  })

  test('another range than the asked one', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    const faults = strike(rig, LARGE, () => ({ times: 1, act: shiftRange(1000) }))
    await rig.mustRun('upload', { patch: QUICK })
    expectFaults(faults)
    await rig.expectUploaded(model)
  })

  test('200 and the whole file for a range', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    const faults = strike(rig, LARGE, () => ({ times: 1, act: ignoreRange() }))
    await rig.mustRun('upload', { patch: QUICK })
    expectFaults(faults)
    await rig.expectUploaded(model)
  })

  test('an HTML page with status 200', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    const faults = strike(rig, KINDS, () => ({ times: 1, act: answer(200, HTML, '<html>try later</html>') }))
    await rig.mustRun('upload', { patch: QUICK })
    expectFaults(faults)
    await rig.expectUploaded(model)
  })

  test('an HTML page just as long as the file', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    const page = '<html>'.padEnd(2000, '.')
    const faults = strike(rig, KINDS.slice(0, 1), () => ({ times: 1, act: answer(200, HTML, page) }))
    await rig.mustRun('upload')
    expectFaults(faults)
    await rig.expectUploaded(model)
  })
})

test('wrong bytes for the first time, behind a lost race, are fetched again', async ({ newRig }) => {
  const rig = await newRig({ models: [model] })
  const name = 'model.safetensors'
  const lost = rig.spaces.faults.add({
    // The part of these bytes: whoever reads them again does so behind the race.
    match: ({ operation, key, query }) =>
      operation === 'UploadPart' && key === rig.key(name) && query.get('partNumber') === '1',
    times: 1,
    act: answer(404, {}, '<Error><Code>NoSuchUpload</Code></Error>'),
  })
  const wrong = rig.hub.faults.add({
    match: (request) => lost.hits > 0 && reads(request, 0) && hubReads(model, name)(request),
    times: 1,
    act: flipByte(0),
  })
  await rig.mustRun('upload', { patch: QUICK })
  expect([lost.hits, wrong.hits]).toEqual([1, 1])
  rig.bucket.uploads.clear()
  await rig.expectUploaded(model)
})

describe.concurrent('at most eight requests of one object at a time, of the ten that Spaces allows', () => {
  const one = { id: 'acme/one', files: [{ path: 'x.bin', body: seededBytes('x', 60_000_000) }] }
  /** Holds requests until eight stand there, and gives the most that ever did. */
  const crowd = <R extends SeenRequest>(): { act: Act<R>; most: number } => {
    let open: () => void = () => undefined
    const full = new Promise<void>((resolve) => {
      open = resolve
    })
    let held = 0
    const counted = {
      most: 0,
      act: (async ({ carryOut }) => {
        held += 1
        counted.most = Math.max(counted.most, held)
        if (held === 8) setImmediate(open)
        await full
        const given = await carryOut()
        held -= 1
        return given
      }) as Act<R>,
    }
    return counted
  }

  test.for(['parts', 'ranges'])('%s', async (kind, { newRig }) => {
    const rig = await newRig({ models: [one], env: { BUFFER: '128Mi' } })
    const [parts, ranges] = [crowd<SpacesRequest>(), crowd<HubRequest>()]
    if (kind === 'parts')
      rig.spaces.faults.add({ match: ({ operation }) => operation === 'UploadPart', act: parts.act })
    else rig.hub.faults.add({ match: hubReads(one, 'x.bin'), act: ranges.act })
    await rig.mustRun('upload')
    expect(kind === 'parts' ? parts.most : ranges.most).toBe(8)
  })
})

describe.concurrent('wrong bytes from the Hub that stay', () => {
  for (const kind of KINDS) {
    const [label, name, offset] = kind
    test(`a flipped bit in ${label}`, async ({ newRig }) => {
      const rig = await newRig({ models: [model] })
      const [fault] = strike(rig, [kind], () => ({ act: flipByte(offset) }))
      const { detail } = await rig.mustFail('upload', 64, 'wrong-bytes')
      expect(detail).toContain('the Hub')
      expect(detail).toContain(name)
      expect(fault?.hits, 'fetched again once').toBe(2)
      rig.expectNotUploaded()
      expect(rig.objects(), 'the wrong object').not.toContain(name)
      const uploads = [...rig.bucket.uploads.values()].filter(({ key }) => key === rig.key(name))
      expect(uploads, 'uploads of wrong parts').toEqual([])
    })
  }

  test('a file of an earlier commit stays as it is', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(mixedModel('earlier'))
    strike(rig, [KINDS[3]], (offset) => ({ act: flipByte(offset) }))
    await rig.mustFail('upload', 64, 'wrong-bytes')
    rig.expectNotUploaded()
    const earlier = seededBytes('earlier model.safetensors', 12_000_000)
    expect(sha256((await rig.object('model.safetensors')) as Buffer)).toBe(sha256(earlier))
  })

  test.for([
    ['short bodies', shorten(600), 1, 'short-body'],
    ['bodies that break off', cut(600), 1, 'short-body'],
    ['no answers', cut(), 1, 'connection'],
    ['bodies on which no byte moves', stall(600), 1, 'stalled'],
    ['an HTML page with status 200', answer(200, HTML, '<html>try later</html>'), 64, 'wrong-answer'],
    ['another range', shiftRange(1000), 64, 'wrong-answer'],
    ['200 for a range', ignoreRange(), 64, 'wrong-answer'],
  ] as const)('%s', async ([, act, code, cause], { newRig }) => {
    const rig = await newRig({ models: [model] })
    strike(rig, [KINDS[3]], () => ({ act }))
    const { detail } = await rig.mustFail('upload', code, cause, {
      patch: cause === 'stalled' ? impatient(0.2) : QUICK,
    })
    expect(detail).toContain('the Hub')
    expect(detail).toContain('model.safetensors')
    rig.expectNotUploaded()
    expect(rig.objects()).not.toContain('model.safetensors')
  })
})
