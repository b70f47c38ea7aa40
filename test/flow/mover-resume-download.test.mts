import { cp, mkdir, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { HubRepo } from '../local/hub.mts'
import { seededBytes } from '../local/model.mts'
import { Forks } from './forks.mts'
import { expectNoFalseDownload } from './kills.mts'
import { documentOf, flipped, mixedModel, type Rig, startRig } from './mover.mts'

/** Hundreds of runs, on a machine that may be busy with others. */
const LIMIT = 300_000

const mixed = mixedModel()
const first: HubRepo = {
  ...mixed,
  files: [
    ...mixed.files,
    { path: 'notes', body: Buffer.from('a file that becomes a folder') },
    { path: 'docs/old/guide.md', body: Buffer.from('a folder that becomes a file') },
  ],
}
/** The next commit: the weights have other bytes of the same size, files are gone, new, and where folders were. */
const second: HubRepo = {
  id: mixed.id,
  files: [
    ...mixed.files.filter(({ path }) => path !== 'adapter.safetensors' && path !== 'model.safetensors'),
    { path: 'model.safetensors', body: seededBytes('second weights', 12_000_000) },
    { path: 'notes/chat.jinja', body: Buffer.from('{{ messages }}') },
    { path: 'docs', body: Buffer.from('one page') },
  ],
}

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

/**
 * Kills a run at every change of the volume in turn; gives how many there are. Until a run has said `found`, what it began
 * with may be false, and the next run is of the same kind; then it is a plain one.
 */
async function killEverywhere(repo: HubRepo, begin: () => Promise<void>, env = {}, found = ''): Promise<number> {
  for (let n = 1; ; n++) {
    await rm(rig.volume, { recursive: true })
    await mkdir(rig.volume)
    await begin()
    const end = await forks.run('download', { env, patch: `import volume_kills; volume_kills.arm(${n})` })
    const isFound = end.log.includes(found)
    if (isFound) await expectNoFalseDownload(rig)
    if (end.status !== -9) {
      expect(end, end.log).toMatchObject({ status: 0 })
      return n - 1
    }
    const again = await forks.run('download', { env: isFound ? {} : env })
    expect(again, end.log + again.log).toMatchObject({ status: 0 })
    await rig.expectDownloaded(repo)
  }
}

test(
  'a kill between any two changes of the volume loses nothing',
  async () => {
    rig.stage(first)
    expect(await killEverywhere(first, async () => undefined)).toBeGreaterThan(50)
  },
  LIMIT,
)

test(
  'a kill between any two changes from one commit to the next loses nothing',
  async () => {
    const staged = path.join(rig.dir, 'staged')
    const evidence = rig.stage(first, { commit: 'a'.repeat(40) })
    for (const { path: name, body } of first.files) {
      await mkdir(path.dirname(path.join(staged, rig.model, name)), { recursive: true })
      await writeFile(path.join(staged, rig.model, name), body as Uint8Array)
    }
    rig.bucket.objects.clear()
    rig.stage(second, { commit: 'b'.repeat(40) })
    const changes = await killEverywhere(second, async () => {
      await cp(staged, rig.volume, { recursive: true })
      await writeFile(rig.file('.download-complete'), documentOf(evidence))
    })
    expect(changes).toBeGreaterThan(35)
  },
  LIMIT,
)

const tiny: HubRepo = { id: mixed.id, files: mixed.files.filter(({ path }) => /^(config|adapter|empty)/.test(path)) }

for (const what of ['a repair', 'an adoption'] as const) {
  test(
    `a kill between any two changes of ${what} leaves nothing that was found wrong and the next run trusts`,
    async () => {
      rig.bucket.objects.clear()
      const evidence = rig.stage(tiny)
      const put = async () => {
        await mkdir(rig.file('.'), { recursive: true })
        for (const { path: name, body } of tiny.files) {
          await writeFile(
            rig.file(name),
            name === 'config.json' ? flipped(body as Uint8Array, 7) : (body as Uint8Array),
          )
        }
        if (what === 'an adoption') return writeFile(rig.file('.download-complete'), "another tool's")
        // Both say of the file that it is as it was proved.
        const { mtimeNs, ino, ctimeNs } = await stat(rig.file('config.json'), { bigint: true })
        const file = evidence.files.find(({ path }) => path === 'config.json')
        const mark = `[${file?.size}, ${mtimeNs}, ${ino}, ${ctimeNs}]`
        await writeFile(rig.file('.download-journal'), JSON.stringify(file).replace('}', `, "mark": ${mark}}\n`))
        await writeFile(rig.file('.download-complete'), documentOf(evidence))
      }
      const env = what === 'a repair' ? { REPAIR: 'true' } : {}
      expect(await killEverywhere(tiny, put, env, 'config.json on the volume holds other bytes')).toBeGreaterThan(12)
    },
    LIMIT,
  )
}
