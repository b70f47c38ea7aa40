import { afterAll, beforeAll, expect, test } from 'vitest'
import type { HubRepo } from '../local/hub.mts'
import { seededBytes } from '../local/model.mts'
import { Forks } from './forks.mts'
import { ageUploads, emptyBucket, expectNoFalseUpload, hurry, killAt, type Moment } from './kills.mts'
import { mixedModel, type Rig, startRig } from './mover.mts'

/** Hundreds of runs, on a machine that may be busy with others. */
const LIMIT = 300_000

const first = mixedModel()
/** The next commit: the weights have other bytes of the same size, one file is gone, one is new. */
const second: HubRepo = {
  id: first.id,
  files: first.files.flatMap((file) => {
    if (file.path === 'adapter.safetensors') return []
    if (file.path !== 'model.safetensors') return [file]
    return [
      { ...file, body: seededBytes('second weights', 12_000_000) },
      { path: 'chat.jinja', body: Buffer.from('{{ messages }}') },
    ]
  }),
}

let rig: Rig
let forks: Forks
let commits: [string, string]

beforeAll(async () => {
  rig = await startRig({ models: [first], env: { BUFFER: '32Mi' } })
  forks = new Forks(rig)
  commits = [await rig.hub.push(first), await rig.hub.push(second)]
  hurry(rig)
})
afterAll(async () => {
  await forks?.close()
  await rig?.close()
})

/** Kills a run at every change of the bucket in turn; gives how many there are. */
async function killEverywhere(moment: Moment, repo: HubRepo, revision: string, begin: () => void): Promise<number> {
  for (let n = 1; ; n++) {
    emptyBucket(rig)
    begin()
    const fault = killAt(rig, () => fork, moment, n)
    const fork = forks.start('upload', { env: { REVISION: revision } })
    const end = await (await fork).end
    fault.remove()
    await expectNoFalseUpload(rig)
    if (fault.hits === 0) {
      expect(end, end.log).toMatchObject({ status: 0 })
      return n - 1
    }
    expect(end, end.log).toMatchObject({ status: -9 })
    ageUploads(rig)
    await forks.mustRun('upload', { env: { REVISION: revision } })
    await rig.expectUploaded(repo)
  }
}

for (const moment of ['before', 'after'] as const) {
  test(
    `a kill ${moment} each change of the bucket loses nothing`,
    async () => {
      const changes = await killEverywhere(moment, first, commits[0], () => undefined)
      expect(changes).toBeGreaterThan(15)
    },
    LIMIT,
  )

  test(
    `a kill ${moment} each change from one commit to the next loses nothing`,
    async () => {
      const changes = await killEverywhere(moment, second, commits[1], () => rig.stage(first, { commit: commits[0] }))
      expect(changes).toBeGreaterThan(10)
    },
    LIMIT,
  )
}
