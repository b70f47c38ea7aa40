import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { smallModel } from '../local/model.mts'
import { createWorld, type World } from '../local/world.mts'

const model = smallModel({ id: 'acme/blips' })
let world: World
let shims: string

/** A kubectl that does not reach the cluster the $BLIP_AT-th time that its arguments match $BLIP, and always otherwise. */
const SHIM = `#!/usr/bin/env bash
if [[ "$*" =~ $BLIP ]]; then
  echo >> "$BLIP_FILE"
  if [ "$(wc -l < "$BLIP_FILE")" -eq "$BLIP_AT" ]; then
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
  const file = path.join(world.dir, `${script}-${at}-${Date.now()}`)
  const env = { PATH: `${shims}:${process.env.PATH}`, BLIP: pattern, BLIP_AT: String(at), BLIP_FILE: file }
  const done = await world.run(script, ['--model', model.id, ...args], { env })
  expect(done, done.stderr).toMatchObject({ code: 0 })
  expect(done.stderr.match(/i\/o timeout; trying on/g)).toHaveLength(1)
  expect(done.stderr.match(/the cluster answers again/g)).toHaveLength(1)
})
