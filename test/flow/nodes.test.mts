import { chmod, mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createWorld, type World } from '../local/world.mts'

// The scripts on other Nodes than the one that the tests run on: NODES names their folders as PATH would (.ci/run).

const folders = (process.env.NODES ?? path.dirname(process.execPath)).split(path.delimiter)
let world: World

beforeAll(async () => {
  world = await createWorld()
})
afterAll(() => world?.close())

const onNode = (folder: string) => ({ PATH: `${folder}${path.delimiter}${world.env.PATH}` })

describe.each(folders)('with the node in %s', (folder) => {
  test('a script works, from another folder and through a symlink too', async () => {
    const env = onNode(folder)
    const slug = await world.run('slug', ['--model', 'Org/M.1'], { env })
    expect(slug, slug.stderr).toMatchObject({ code: 0, stdout: 'org--m-1\n' })
    const help = await world.run('setup-model', ['--help'], { env })
    expect(help, help.stderr).toMatchObject({ code: 0, stdout: expect.stringContaining('--model') })

    const link = path.join(world.dir, `bind-${folders.indexOf(folder)}`)
    await world.run('ln', ['-s', path.resolve('scripts/fix-pvc.mts'), link])
    const bound = await world.run(link, [], { env, cwd: world.dir })
    expect(bound, bound.stderr).toMatchObject({ code: 0 })
    expect(await world.object('pvc', world.pvc)).toMatchObject({ status: { phase: 'Bound' } })
  })
})

test.each(['v18.20.8', 'v20.10.0', 'v21.1.0'])('%s is too old, which one line says', async (version) => {
  const folder = path.join(world.dir, version)
  await mkdir(folder)
  await writeFile(path.join(folder, 'node'), `#!/bin/sh\necho ${version}\n`)
  await chmod(path.join(folder, 'node'), 0o755)
  const done = await world.run('slug', ['--model', 'a/b'], { env: onNode(folder) })
  expect(done).toMatchObject({ code: 1, stdout: '' })
  expect(done.stderr).toMatch(
    /^✗ tools +node \S+ is too old\n +install Node\.js 20\.11 or newer: https:\/\/nodejs\.org\n$/,
  )
})
