import { expect, test } from 'vitest'
import { gate } from '../local/faults.mts'
import type { HubRequest } from '../local/hub.mts'
import type { SpacesRequest } from '../local/spaces.mts'
import { ageUploads, emptyBucket, forks, hurry, killAt, killBehindJournal, rig, useForks } from './kills.mts'
import { hubReads, spacesReads, twinModels, WEIGHTS } from './mover.mts'

const [first, second] = twinModels()

useForks(first)

test('the next pod of a Job stays at the commit of the first one, another Job takes the newest', async () => {
  const commits = [await rig.hub.push(first)]
  await killBehindJournal(rig, forks, WEIGHTS, 1)
  commits.push(await rig.hub.push(second))
  await ageUploads(rig)
  expect((await forks.mustRun('upload')).message?.commit).toBe(commits[0])
  await rig.expectUploaded(first)

  emptyBucket(rig)
  await rig.hub.push(first)
  await killBehindJournal(rig, forks, WEIGHTS, 1)
  commits.push(await rig.hub.push(second))
  await ageUploads(rig)
  expect((await forks.mustRun('upload', { env: { JOB_UID: 'job-2' } })).message?.commit).toBe(commits[2])
  await rig.expectUploaded(second)
})

test('the next pod of a Job stays at its commit even when only clearing up was left', async () => {
  const commit = await rig.hub.push(first)
  const evidence = ({ operation, key }: SpacesRequest) =>
    operation === 'PutObject' && key === rig.key('.upload-complete')
  const fault = killAt(rig, () => fork, 'after', 1, evidence)
  const fork = forks.start('upload')
  expect(await (await fork).end).toMatchObject({ status: -9 })
  fault.remove()
  await rig.hub.push(second)
  rig.moved()
  expect((await forks.mustRun('upload')).message?.commit).toBe(commit)
  expect(rig.moved()).toMatchObject({ fromHub: 0, intoBucket: 0 })
  await rig.expectUploaded(first)
})

test('a Job without a UID resolves its revision anew', async () => {
  await rig.hub.push(first)
  const env = { JOB_UID: '' }
  const joins = ({ operation }: SpacesRequest) => operation === 'CompleteMultipartUpload'
  const fault = killAt(rig, () => fork, 'before', 1, joins)
  const fork = forks.start('upload', { env })
  expect(await (await fork).end).toMatchObject({ status: -9 })
  fault.remove()
  const commit = await rig.hub.push(second)
  await ageUploads(rig)
  expect((await forks.mustRun('upload', { env })).message?.commit).toBe(commit)
  await rig.expectUploaded(second)
})

test('SIGTERM in mid-transfer ends hop 1 with 143 although the Hub is silent, and the next pod goes on', async () => {
  await rig.hub.push(first)
  const silent = gate<HubRequest>()
  rig.hub.faults.add({ match: hubReads(first, WEIGHTS), act: silent.act })
  const fork = await forks.start('upload')
  await silent.arrived
  const began = performance.now()
  const end = await fork.kill('SIGTERM')
  expect(end, end.log).toMatchObject({ status: 143, message: { state: 'failed', cause: 'stopped' } })
  // Far below the 60 s after which a silent connection fails, and the 30 s that a pod has.
  expect(performance.now() - began).toBeLessThan(15_000)
  rig.hub.faults.clear()
  silent.open()
  rig.expectNotUploaded()
  await ageUploads(rig)
  await forks.mustRun('upload')
  await rig.expectUploaded(first)
})

test('SIGTERM in mid-transfer ends hop 1 with 143 although Spaces is silent', async () => {
  await rig.hub.push(first)
  const silent = gate<SpacesRequest>()
  rig.spaces.faults.add({ match: ({ operation }) => operation === 'UploadPart', act: silent.act })
  const fork = await forks.start('upload')
  await silent.arrived
  const end = await fork.kill('SIGTERM')
  expect(end, end.log).toMatchObject({ status: 143, message: { cause: 'stopped' } })
  rig.spaces.faults.clear()
  hurry(rig)
  await ageUploads(rig)
  await forks.mustRun('upload')
  await rig.expectUploaded(first)
  silent.open()
})

test('SIGTERM in mid-transfer keeps what the journal of hop 1 counts', async () => {
  await rig.hub.push(first)
  await killBehindJournal(rig, forks, WEIGHTS, 1, 'SIGTERM')
  await ageUploads(rig)
  const before = rig.moved().fromHub
  const { log } = await forks.mustRun('upload')
  expect(log).toContain(`going on with ${WEIGHTS} behind`)
  const whole = first.files.reduce((sum, { body }) => sum + (body as Uint8Array).length, 0)
  expect(before + rig.moved().fromHub - whole).toBeLessThanOrEqual(32 * 2 ** 20)
  await rig.expectUploaded(first)
})

test('SIGTERM in mid-transfer ends hop 2 with 143, and the next pod goes on', async () => {
  rig.stage(first)
  const silent = gate<SpacesRequest>()
  const last = ({ range }: SpacesRequest) => range?.startsWith(`bytes=${2 * 5 * 2 ** 20}-`) ?? false
  rig.spaces.faults.add({
    match: (request) => spacesReads(WEIGHTS)(request) && last(request),
    act: silent.act,
  })
  const fork = await forks.start('download')
  await silent.arrived
  const end = await fork.kill('SIGTERM')
  expect(end, end.log).toMatchObject({ status: 143, message: { cause: 'stopped' } })
  await rig.expectNotDownloaded()
  rig.spaces.faults.clear()
  silent.open()
  await forks.mustRun('download')
  await rig.expectDownloaded(first)
})
