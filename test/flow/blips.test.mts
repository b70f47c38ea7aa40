import { randomUUID } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { smallModel } from '../local/model.mts'
import { createWorld, type World } from '../local/world.mts'

const model = smallModel({ id: 'acme/blips' })
let world: World
let shims: string

/**
 * A kubectl that does not reach the cluster the $BLIP_AT-th time that its arguments match $BLIP, and always otherwise.
 * BLIP_HOW: `done`, the cluster has done what it was asked and only the answer is lost; `hangs`, nothing comes back.
 */
const SHIM = `#!/usr/bin/env bash
if [[ "$*" =~ $BLIP ]]; then
  echo >> "$BLIP_FILE"
  if [ "$(wc -l < "$BLIP_FILE")" -eq "$BLIP_AT" ]; then
    case \${BLIP_HOW:-} in
      done) PATH=\${PATH#*:} kubectl "$@" > /dev/null ;;
      hangs) echo $$ > "$BLIP_FILE.pid"; exec sleep 600 ;;
    esac
    echo 'Unable to connect to the server: dial tcp 192.0.2.1:443: i/o timeout' >&2
    exit 1
  fi
fi
PATH=\${PATH#*:} exec kubectl "$@"
`

beforeAll(async () => {
  world = await createWorld({ models: [model] })
  shims = path.join(world.dir, 'shims')
  const done = await world.run('setup-model', ['--model', model.id])
  expect(done, done.stderr).toMatchObject({ code: 0 })
  await mkdir(shims)
  await writeFile(path.join(shims, 'kubectl'), SHIM, { mode: 0o755 })
})
afterAll(() => world?.close())

test.each([
  ['verify', [], 'get pvc ', 1],
  ['verify', [], 'get job model-upload-spaces', 1],
  ['setup-model', ['--plan'], 'get pvc ', 1],
  ['clean', ['--yes'], 'get jobs,pods,configmaps', 1],
  ['clean', ['--yes'], 'get jobs,pods,configmaps', 3],
  ['clean', ['--yes'], 'delete --raw=/apis/batch', 1],
])('%s %j rides out a cluster that once does not answer to %s (number %i)', async (script, args, pattern, at) => {
  if (script === 'clean') await world.run('model-to-spaces', ['--model', model.id])
  const done = await world.run(script, ['--model', model.id, ...args], { env: blip(pattern, at) })
  expect(done, done.stderr).toMatchObject({ code: 0 })
  expect(done.stderr.match(/i\/o timeout; trying on/g)).toHaveLength(1)
  expect(done.stderr.match(/the cluster answers again/g)).toHaveLength(1)
})

test('a removal whose creation was not answered is its own, and is begun', async () => {
  const staged = await world.run('setup-model', ['--model', model.id])
  expect(staged, staged.stderr).toMatchObject({ code: 0 })
  // The first Job only looks.
  const env = { ...blip('create --filename=- --output=json', 2), BLIP_HOW: 'done' }
  const done = await world.run('clean', ['--model', model.id, '--nfs', '--yes'], { env })
  expect(done, done.stderr).toMatchObject({ code: 0 })
  expect(done.stderr).toMatch(/i\/o timeout; trying on/)
  expect(done.stderr).toMatch(/^• clean +Job \S+ removes the copy in the volume$/m)
  expect(done.stdout).toContain(`of ${model.id} was removed`)
})

test('a removal that was killed before it was begun keeps transfers out, and is replaced by the next one', async () => {
  const staged = await world.run('setup-model', ['--model', model.id])
  expect(staged, staged.stderr).toMatchObject({ code: 0 })
  const args = ['--model', model.id, '--nfs', '--yes']
  const env = { ...blip('patch job model-clean-nfs', 1), BLIP_HOW: 'hangs' }
  const killed = world.start('clean', args, { env })
  const pid = await vi.waitFor(() => readFile(`${env.BLIP_FILE}.pid`, 'utf8'), { timeout: 60_000, interval: 50 })
  killed.signal('SIGKILL')
  process.kill(-Number(pid), 'SIGKILL')
  await killed.outcome

  const name = 'model-clean-nfs-acme--blips'
  expect((await world.object('job', name))?.spec.suspend).toBe(true)
  const beside = await world.run('model-to-nfs', ['--model', model.id])
  expect(beside).toMatchObject({ code: 1 })
  expect(beside.stderr).toContain(`delete job/${name}`)
  const done = await world.run('clean', args)
  expect(done, done.stderr).toMatchObject({ code: 0 })
  expect(done.stderr).toMatch(new RegExp(`Job ${name}, which was never begun, is deleted first`))
})

/** The environment in which the cluster does not answer to this call. */
function blip(pattern: string, at: number) {
  const BLIP_FILE = path.join(world.dir, `blip-${randomUUID()}`)
  return { PATH: `${shims}:${process.env.PATH}`, BLIP: pattern, BLIP_AT: String(at), BLIP_FILE }
}
