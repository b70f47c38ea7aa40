import { rm } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { smallModel } from '../local/model.mts'
import { createWorld, type KubeObject, type World } from '../local/world.mts'
import { expectStaged, lastLine } from './proof.mts'

const model = smallModel({ id: 'acme/Tiny-1.0' })
const slug = 'acme--tiny-1-0'
let world: World

beforeAll(async () => {
  world = await createWorld({ models: [model, smallModel({ id: 'gpt2' })] })
})
afterAll(() => world?.close())

async function jobs(): Promise<string[]> {
  return (await world.list('jobs')).map(({ metadata }) => metadata.name).sort()
}

describe('one model, from an empty cluster on', () => {
  test('setup-model claims the volume, moves the model over both hops and proves it', async () => {
    const done = await world.run('setup-model', ['--model', model.id])
    expect(done, done.stderr).toMatchObject({ code: 0 })
    await expectStaged(world, model)

    const claim = await world.object('pvc', world.pvc)
    expect(claim).toMatchObject({ status: { phase: 'Bound' }, spec: { volumeName: world.pv } })
    expect(await jobs(), 'the verify Job is gone').toEqual([
      `model-download-nfs-${slug}`,
      `model-upload-spaces-${slug}`,
    ])
    for (const name of await jobs()) {
      const job = (await world.object('job', name)) as KubeObject
      expect(job.metadata.annotations).toMatchObject({ 'model-storage-pipeline/model': model.id })
      expect(job.status.conditions).toContainEqual(expect.objectContaining({ type: 'Complete', status: 'True' }))
    }
  })

  test('a second run moves no model bytes', async () => {
    const before = world.moved
    const done = await world.run('make', ['setup-model'], { env: { MODEL: model.id } })
    expect(done, done.stderr).toMatchObject({ code: 0 })
    expect(world.moved).toEqual(before)
    expect(done.stderr).toMatch(/✓ storage .* \(was already\)$/m)
    for (const hop of ['to Spaces', 'to NFS'])
      expect(done.stderr).toMatch(new RegExp(`✓ ${hop} .*; it was there already, nothing moved$`, 'm'))
    await expectStaged(world, model)
  })

  test('verify answers from the evidence once the Jobs are deleted', async () => {
    await world.kubectl(['delete', 'jobs', '--all'])
    const done = await world.run('verify', ['--model', model.id])
    expect(done, done.stderr).toMatchObject({ code: 0 })
    expect(await jobs()).toEqual([])
  })
})

test('stages run one by one through make, and hop 2 takes up what is missing on the volume', async () => {
  const gpt2 = smallModel({ id: 'gpt2' })
  for (const target of ['fix-pvc', 'model-to-spaces', 'model-to-nfs', 'verify']) {
    const done = await world.run('make', [target, 'MODEL=gpt2'])
    expect(done, `${target}: ${done.stderr}`).toMatchObject({ code: 0 })
  }
  const evidence = await expectStaged(world, gpt2)

  await rm(path.join(world.volume, 'gpt2'), { recursive: true })
  const before = world.moved
  const done = await world.run('setup-model', ['--model', 'gpt2'])
  expect(done, done.stderr).toMatchObject({ code: 0 })
  const { fromHub, intoBucket, outOfBucket } = world.moved
  expect(await expectStaged(world, gpt2)).toEqual(evidence)
  const bytes = evidence.files.reduce((sum, { size }) => sum + size, 0)
  expect({ fromHub, intoBucket }).toEqual({ fromHub: before.fromHub, intoBucket: before.intoBucket })
  expect(outOfBucket - before.outOfBucket).toBe(bytes)
})

test('a script runs from any folder and through a symlink', async () => {
  const link = path.join(world.dir, 'verify-model')
  await world.run('ln', ['-s', path.resolve('scripts/verify.mts'), link])
  const done = await world.run(link, ['--model', model.id], { cwd: world.dir })
  expect(done, done.stderr).toMatchObject({ code: 0 })
})

test('a model nobody staged is not verified, and the way to stage it is named', async () => {
  const done = await world.run('verify', ['--model', 'acme/never-staged'])
  expect(done).toMatchObject({ code: 1 })
  expect(done.stdout + done.stderr).toContain('acme/never-staged')
  expect(lastLine(done.stderr)).toMatch(/setup-model|model-to-/)
})
