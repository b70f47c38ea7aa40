import { describe, expect } from 'vitest'
import { answer, runAfter, runBefore } from '../local/faults.mts'
import type { HubRepo } from '../local/hub.mts'
import { seededBytes } from '../local/model.mts'
import { isChange } from '../local/spaces.mts'
import { documentOf, evidenceOf, flipped, QUICK, type Rig, test } from './mover.mts'

const bytes = (seed: string, size: number) => seededBytes(seed, size)
const LARGE = 1_500_000
const SMALL = 3000
/** One file of each kind, and one in a folder. */
const model: HubRepo = {
  id: 'acme/evident',
  files: [
    { path: 'config.json', body: bytes('config', SMALL) },
    { path: 'nested/vocab.txt', body: bytes('vocab', SMALL) },
    { path: 'adapter.safetensors', body: bytes('adapter', SMALL), lfs: true },
    { path: 'model.safetensors', body: bytes('model', LARGE) },
  ],
}
const SIZE = LARGE + 3 * SMALL
const NOTHING = { fromHub: 0, intoBucket: 0, outOfBucket: 0 }

function changed(files: Record<string, Uint8Array | undefined>, id = model.id): HubRepo {
  const all = { ...Object.fromEntries(model.files.map(({ path, body }) => [path, body as Uint8Array])), ...files }
  return {
    id,
    files: Object.entries(all).flatMap(([path, body]) =>
      body ? [{ path, body, lfs: path.endsWith('.safetensors') }] : [],
    ),
  }
}

/** The changes of model files and of the evidence that a run made, oldest first. */
function changes(rig: Rig): string[] {
  return rig.spaces.requests
    .filter((request) => isChange(request) && !/\.upload-(plan|journal|suspect)/.test(request.key))
    .map(({ operation, key }) => `${operation} ${key.slice(rig.key('').length)}`)
}

/** Puts the objects into the bucket as another tool did, with this as their sentinel. */
function stageForeign(rig: Rig, sentinel: string, repo = model): void {
  rig.stage(repo)
  rig.putObject('.upload-complete', sentinel, 30)
}

describe.concurrent('a sentinel that proves nothing: the objects are read back and adopted', () => {
  test.for<[string, string]>([
    ['an empty one', ''],
    ['text', 'done\n'],
    ['half of a manifest', documentOf(evidenceOf(model)).slice(0, 300)],
    ['the evidence of another model', documentOf(evidenceOf({ ...model, id: 'acme/other' }))],
    ['hostile paths', documentOf(evidenceOf({ id: model.id, files: [{ path: '../../x', body: bytes('x', 1) }] }))],
  ])('%s', async ([, sentinel], { newRig }) => {
    const rig = await newRig({ models: [model] })
    stageForeign(rig, sentinel)
    await rig.mustRun('upload')
    expect(rig.moved()).toEqual({ fromHub: 0, intoBucket: 0, outOfBucket: SIZE })
    await rig.expectUploaded(model)
    await rig.mustRun('upload')
    expect(rig.moved()).toEqual(NOTHING)
  })

  test('objects that are wrong, cut or missing are replaced, and only these', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    stageForeign(rig, '')
    rig.putObject('config.json', bytes('other', SMALL), 60)
    rig.putObject('adapter.safetensors', bytes('adapter', SMALL).subarray(0, 10), 60)
    rig.bucket.delete(rig.key('nested/vocab.txt'))
    await rig.mustRun('upload')
    expect(rig.moved()).toEqual({ fromHub: 3 * SMALL, intoBucket: 3 * SMALL, outOfBucket: LARGE + SMALL })
    await rig.expectUploaded(model)
  })

  test('a large object that is wrong', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    stageForeign(rig, '')
    rig.putObject('model.safetensors', bytes('other', LARGE), 60)
    await rig.mustRun('upload')
    expect(rig.moved()).toEqual({ fromHub: LARGE, intoBucket: LARGE, outOfBucket: SIZE })
    await rig.expectUploaded(model)
  })

  test('no sentinel at all', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(model)
    rig.bucket.delete(rig.key('.upload-complete'))
    await rig.mustRun('upload')
    expect(rig.moved()).toEqual({ fromHub: 0, intoBucket: 0, outOfBucket: SIZE })
    await rig.expectUploaded(model)
  })
})

describe.concurrent('evidence that was true', () => {
  test('a changed commit moves what changed, removes what is gone and leaves what nobody knows', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    await rig.mustRun('upload')
    rig.putObject('notes.txt', 'mine')
    const next = changed({
      'config.json': bytes('new config', SMALL),
      'nested/vocab.txt': undefined,
      'adapter.safetensors': undefined,
      'added.safetensors': bytes('added', SMALL),
    })
    const commit = await rig.hub.push(next)
    rig.moved()
    const { message, log } = await rig.mustRun('upload')
    expect(message).toMatchObject({ commit, files: 3 })
    expect(log).toContain('notes.txt')
    const made = changes(rig)
    expect(made.at(0), 'the evidence goes first').toBe('DeleteObject .upload-complete')
    expect(made.at(-1), 'and comes last').toBe('PutObject .upload-complete')
    expect(made.slice(1, -1).sort()).toEqual([
      'DeleteObject adapter.safetensors',
      'DeleteObject nested/vocab.txt',
      'PutObject added.safetensors',
      'PutObject config.json',
    ])
    expect(rig.moved(), 'git files have no SHA-256 of their own: an old one is read back').toEqual({
      fromHub: 2 * SMALL,
      intoBucket: 2 * SMALL,
      outOfBucket: SMALL,
    })
    expect((await rig.expectUploaded(next, ['notes.txt'])).commit).toBe(commit)
  })

  test('a changed large file', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    await rig.mustRun('upload')
    const next = changed({ 'model.safetensors': bytes('new model', LARGE) })
    await rig.hub.push(next)
    rig.moved()
    await rig.mustRun('upload')
    expect(rig.moved()).toEqual({ fromHub: LARGE, intoBucket: LARGE, outOfBucket: 2 * SMALL })
    await rig.expectUploaded(next)
  })

  test('a changed filter', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    await rig.mustRun('upload')
    rig.moved()
    await rig.mustRun('upload', { env: { EXCLUDE: 'nested/*' } })
    expect(rig.moved()).toEqual(NOTHING)
    expect(rig.objects()).toEqual(['.upload-complete', 'adapter.safetensors', 'config.json', 'model.safetensors'])
    await rig.mustRun('upload', { env: { INCLUDE: '*.json *.txt', EXCLUDE: 'config*' } })
    expect(rig.objects()).toEqual(['.upload-complete', 'nested/vocab.txt'])
    const written = JSON.parse(String(await rig.object('.upload-complete')))
    expect(written).toMatchObject({ include: ['*.json', '*.txt'], exclude: ['config*'] })
    await rig.mustRun('upload')
    await rig.expectUploaded(model)
  })

  test('another name for the same commit', async ({ newRig }) => {
    const rig = await newRig({ models: [{ ...model, tags: ['v1'] }] })
    const { message } = await rig.mustRun('upload')
    rig.moved()
    await rig.mustRun('upload', { env: { REVISION: 'v1' } })
    expect(rig.moved()).toEqual(NOTHING)
    expect(JSON.parse(String(await rig.object('.upload-complete')))).toMatchObject({
      revision: 'v1',
      commit: message?.commit,
    })
  })

  test('evidence that is older than an object is written anew where something else proves that object', async ({
    newRig,
  }) => {
    const rig = await newRig({ models: [model] })
    const { files, commit } = rig.stage(model, { commit: await rig.hub.push(model) })
    const weights = files.find(({ path }) => path === 'model.safetensors')
    rig.putObject('model.safetensors', bytes('model', LARGE), 20)
    const etag = rig.bucket.objects.get(rig.key('model.safetensors'))?.etag
    const proofs = { 'model.safetensors': { size: LARGE, sha256: weights?.sha256, etag, blob: '' } }
    const plan = { model: model.id, revision: 'main', commit, include: [], exclude: [], job: 'x', proofs, known: [] }
    rig.putObject('.upload-plan', JSON.stringify(plan), 20)
    for (let run = 0; run < 2; run++) {
      expect((await rig.mustRun('upload')).log).toContain('already complete')
      expect(rig.moved()).toEqual(NOTHING)
      await rig.expectUploaded(model)
    }
  })

  test('an object that is gone, one that was cut, and one that is newer but the same', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    await rig.mustRun('upload')
    rig.bucket.delete(rig.key('config.json'))
    rig.putObject('adapter.safetensors', 'cut', 60)
    rig.putObject('nested/vocab.txt', bytes('vocab', SMALL))
    rig.moved()
    await rig.mustRun('upload')
    expect(rig.moved()).toEqual({ fromHub: 2 * SMALL, intoBucket: 2 * SMALL, outOfBucket: SMALL })
    await rig.expectUploaded(model)
  })
})

describe.concurrent('an object of the same size replaced behind our back', () => {
  for (const [label, name, size] of [
    ['a small one', 'config.json', SMALL],
    ['a large one', 'model.safetensors', LARGE],
  ] as const) {
    const wrong = flipped(model.files.find(({ path }) => path === name)?.body as Uint8Array, size - 1)

    test(`${label} in the second of the evidence`, async ({ newRig }) => {
      const rig = await newRig({ models: [model] })
      await rig.mustRun('upload')
      const evidence = rig.bucket.objects.get(rig.key('.upload-complete'))
      rig.putObject(name, wrong, (Date.now() - Number(evidence?.lastModified)) / 1000)
      rig.moved()
      await rig.mustRun('upload')
      expect(rig.moved()).toEqual({ fromHub: size, intoBucket: size, outOfBucket: size })
      await rig.expectUploaded(model)
    })

    for (const [moment, replacing] of [
      ['before', runBefore],
      ['behind', runAfter],
    ] as const) {
      test(`${label} in the moment ${moment} the evidence`, async ({ newRig }) => {
        const rig = await newRig({ models: [model] })
        rig.spaces.faults.add({
          match: ({ operation, key }) => operation === 'PutObject' && key.endsWith('/.upload-complete'),
          times: 1,
          act: replacing(() => rig.putObject(name, wrong)),
        })
        await rig.mustRun('upload')
        await rig.expectUploaded(model)
      })
    }

    test(`${label} once it is there, and before the rest is`, async ({ newRig }) => {
      const rig = await newRig({ models: [model] })
      rig.spaces.faults.add({
        match: ({ operation, key }) =>
          operation === (size > SMALL ? 'CompleteMultipartUpload' : 'PutObject') && key.endsWith(`/${name}`),
        times: 1,
        act: runAfter(() => rig.putObject(name, wrong)),
      })
      await rig.mustRun('upload')
      await rig.expectUploaded(model)
    })

    test(`${label} while it is read back`, async ({ newRig }) => {
      const rig = await newRig({ models: [model] })
      stageForeign(rig, '')
      rig.spaces.faults.add({
        match: ({ operation, key }) => operation === 'GetObject' && key.endsWith(`/${name}`),
        times: 1,
        act: runBefore(() => rig.putObject(name, wrong)),
      })
      await rig.mustRun('upload')
      await rig.expectUploaded(model)
    })
  }

  test('a change that Spaces confirms and does not make, once', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(changed({ 'config.json': bytes('other', SMALL), 'model.safetensors': bytes('other', LARGE) }))
    const faults = (['PutObject', 'CompleteMultipartUpload'] as const).map((operation) =>
      rig.spaces.faults.add({
        match: (request) => request.operation === operation && /config|model.safe/.test(request.key),
        times: 1,
        act: answer(200, { 'content-type': 'text/html' }, '<html>welcome</html>'),
      }),
    )
    await rig.mustRun('upload', { patch: QUICK })
    expect(faults.map(({ hits }) => hits)).toEqual([1, 1])
    // The upload that was not joined may be another run's: it stays until it is old.
    expect(rig.bucket.uploads.size).toBe(1)
    rig.bucket.uploads.clear()
    await rig.expectUploaded(model)
  })

  test.for([
    ['an object', 'PutObject', 'config.json', 'spaces-error'],
    ['a join', 'CompleteMultipartUpload', 'model.safetensors', 'spaces-unsteady'],
  ] as const)('%s that Spaces confirms and never makes', async ([, operation, name, cause], { newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.stage(changed({ [name]: bytes('other', name === 'config.json' ? SMALL : LARGE) }))
    rig.spaces.faults.add({
      match: (request) => request.operation === operation && request.key.endsWith(`/${name}`),
      act: answer(200, { 'content-type': 'text/html' }, '<html>welcome</html>'),
    })
    await rig.mustFail('upload', 1, cause, { patch: QUICK })
    rig.expectNotUploaded()
  })

  test('a join that fails with status 200', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    rig.spaces.faults.add({
      match: ({ operation }) => operation === 'CompleteMultipartUpload',
      times: 1,
      act: answer(200, { 'content-type': 'application/xml' }, '<Error><Code>InternalError</Code></Error>'),
    })
    await rig.mustRun('upload', { patch: QUICK })
    await rig.expectUploaded(model)
  })

  test('for ever', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    let count = 0
    rig.spaces.faults.add({
      match: ({ operation, key }) => operation === 'PutObject' && key.endsWith('/config.json'),
      act: runAfter(() => rig.putObject('config.json', bytes(`other ${count++}`, SMALL))),
    })
    const { detail } = await rig.mustFail('upload', 1, 'spaces-unsteady')
    expect(detail).toContain('config.json')
    rig.expectNotUploaded()
  })
})
