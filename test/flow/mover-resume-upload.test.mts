import { afterAll, beforeAll, expect, test } from 'vitest'
import type { HubRepo } from '../local/hub.mts'
import { seededBytes } from '../local/model.mts'
import { CHANGES, isChange, type SpacesRequest } from '../local/spaces.mts'
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

/** The operations at which a run was killed. */
const struck = new Set<string>()

/** Kills a run at every change of the bucket in turn; gives how many there are. */
async function killEverywhere(
  moment: Moment,
  repo: HubRepo,
  env: Record<string, string>,
  begin: () => unknown,
): Promise<number> {
  for (let n = 1; ; n++) if (!(await killAtChange(moment, repo, env, begin, n, isChange))) return n - 1
}

/** Kills a run at the n-th of these changes, and has the next one end the work; false where there are not so many. */
async function killAtChange(
  moment: Moment,
  repo: HubRepo,
  env: Record<string, string>,
  begin: () => unknown,
  n: number,
  isOne: (request: SpacesRequest) => boolean,
): Promise<boolean> {
  emptyBucket(rig)
  await begin()
  let count = 0
  const match = (request: SpacesRequest) => {
    if (!isOne(request)) return false
    count += 1
    if (count === n) struck.add(request.operation)
    return true
  }
  const fault = killAt(rig, () => fork, moment, n, match)
  const fork = forks.start('upload', { env })
  const end = await (await fork).end
  fault.remove()
  await expectNoFalseUpload(rig)
  if (fault.hits === 0) {
    expect(end, end.log).toMatchObject({ status: 0 })
    return false
  }
  expect(end, end.log).toMatchObject({ status: -9 })
  await ageUploads(rig)
  await forks.mustRun('upload', { env })
  await rig.expectUploaded(repo)
  return true
}

for (const moment of ['before', 'after'] as const) {
  test(
    `a kill ${moment} each change of the bucket loses nothing`,
    async () => {
      const changes = await killEverywhere(moment, first, { REVISION: commits[0] }, () => undefined)
      expect(changes).toBeGreaterThan(15)
    },
    LIMIT,
  )

  test(
    `a kill ${moment} each change from one commit to the next loses nothing`,
    async () => {
      const changes = await killEverywhere(moment, second, { REVISION: commits[1] }, () =>
        rig.stage(first, { commit: commits[0] }),
      )
      expect(changes).toBeGreaterThan(10)
    },
    LIMIT,
  )

  test(
    `a kill ${moment} each change of a repair loses nothing, over what others have left there`,
    async () => {
      const env = { REVISION: commits[0], REPAIR: 'true' }
      const begin = async () => {
        rig.stage(first)
        rig.putObject('.upload-complete', '{"files": []}', 50)
        rig.putObject('.upload-suspect', '{"paths": ["config.json"]}', 40)
        rig.putObject('model.safetensors', seededBytes('rotten', 12_000_000), 60)
        rig.bucket.startUpload(rig.key('model.safetensors'), {})
        await ageUploads(rig)
      }
      const changes = await killEverywhere(moment, first, env, begin)
      expect(changes).toBeGreaterThan(9)
      // Its place among the changes is another one in each run.
      const aborts = ({ operation }: SpacesRequest) => operation === 'AbortMultipartUpload'
      expect(await killAtChange(moment, first, env, begin, 1, aborts)).toBe(true)
    },
    LIMIT,
  )

  test(
    `a kill ${moment} each change for another name of the same commit loses nothing`,
    async () => {
      const changes = await killEverywhere(moment, first, { REVISION: commits[0] }, () =>
        rig.stage(first, { commit: commits[0] }),
      )
      expect(changes).toBe(3)
    },
    LIMIT,
  )
}

test('these were all the changes of a bucket that a mover makes', () => {
  const never = ['CreateBucket', 'DeleteObjects']
  expect([...struck].sort()).toEqual([...CHANGES].filter((operation) => !never.includes(operation)).sort())
})
