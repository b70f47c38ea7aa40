import { mkdir, readFile, rm } from 'node:fs/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { dieAfter, dieBefore } from '../local/faults.mts'
import type { SeenRequest } from '../local/http.mts'
import type { HubRepo } from '../local/hub.mts'
import { seededBytes } from '../local/model.mts'
import { Forks } from './forks.mts'
import { ageUploads, emptyBucket, expectNoFalseDownload, expectNoFalseUpload, hurry } from './kills.mts'
import { mixedModel, type Rig, startRig } from './mover.mts'

const ROUNDS = 4
/** Runs of a round that are ended before the one that may end by itself. */
const DEATHS = 8
const LIMIT = 300_000

const id = 'acme/random'
const commit = (name: string): HubRepo => ({
  id,
  files: [
    ...mixedModel('same').files,
    { path: 'shards/1.safetensors', body: seededBytes(`${name} 1`, 21_000_000) },
    { path: `shards/${name}.safetensors`, body: seededBytes(`${name} 2`, 7_000_000) },
  ],
})
const first = commit('first')
const second = commit('second')

let rig: Rig
let forks: Forks

beforeAll(async () => {
  rig = await startRig({ models: [first], env: { BUFFER: '32Mi' } })
  forks = new Forks(rig)
})
afterAll(async () => {
  await forks?.close()
  await rig?.close()
})

/** mulberry32: the same seed gives the same numbers. */
function numbers(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let value = Math.imul(state ^ (state >>> 15), 1 | state)
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value
    return ((value ^ (value >>> 14)) >>> 0) % below
  }
}

/** Ends a run at its n-th request to either side, by one of the two signals; false where it had fewer and is through. */
async function dieAtRequest(verb: 'upload' | 'download', draw: (below: number) => number): Promise<boolean> {
  // Few enough that a run which goes on where the last one ended comes so far too.
  const n = 1 + draw(verb === 'upload' ? 20 : 6)
  const signal = draw(4) === 0 ? 'SIGTERM' : 'SIGKILL'
  let seen = 0
  const fault = {
    match: (_: SeenRequest) => ++seen === n,
    act: (draw(2) === 0 ? dieBefore : dieAfter)(async () => {
      await (await fork).kill(signal)
    }),
  }
  const faults = [rig.hub.faults.add(fault), rig.spaces.faults.add(fault)]
  const fork = forks.start(verb)
  const end = await (await fork).end
  for (const one of faults) one.remove()
  expect([0, signal === 'SIGTERM' ? 143 : -9], end.log).toContain(end.status)
  return end.status !== 0
}

async function dieOnVolume(draw: (below: number) => number): Promise<boolean> {
  const end = await forks.run('download', { patch: `import volume_kills; volume_kills.arm(${1 + draw(12)})` })
  expect([0, -9], end.log).toContain(end.status)
  return end.status !== 0
}

for (let seed = 1; seed <= ROUNDS; seed++) {
  test(
    `random ends of runs, seed ${seed}`,
    async () => {
      const draw = numbers(seed)
      rig.spaces.faults.clear()
      emptyBucket(rig)
      hurry(rig)
      await rm(rig.volume, { recursive: true })
      await mkdir(rig.volume)
      const deaths = { upload: 0, download: 0 }
      for (const repo of [first, second]) {
        await rig.hub.push(repo)
        for (let death = 0; death < DEATHS; death++) {
          deaths.upload += Number(await dieAtRequest('upload', draw))
          await expectNoFalseUpload(rig)
        }
        await forks.mustRun('upload')
        await expectNoFalseUpload(rig)
        for (let death = 0; death < DEATHS; death++) {
          deaths.download += Number(await (draw(2) === 0 ? dieOnVolume(draw) : dieAtRequest('download', draw)))
          await expectNoFalseDownload(rig)
        }
        await forks.mustRun('download')
        await rig.expectDownloaded(repo)
        expect(await readFile(rig.file('.download-complete'))).toEqual(await rig.object('.upload-complete'))
        // Of uploads whose number a kill swallowed nobody knows whose they are, until they are old.
        await ageUploads(rig)
        await forks.mustRun('upload')
        await rig.expectUploaded(repo)
      }
      for (const [verb, count] of Object.entries(deaths))
        expect(count, `of ${2 * DEATHS} of ${verb}`).toBeGreaterThanOrEqual(DEATHS)
    },
    LIMIT,
  )
}
