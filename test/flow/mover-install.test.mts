import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import path from 'node:path'
import { describe, expect } from 'vitest'
import { type MoverOptions, type Rig, test } from './mover.mts'

const model = { id: 'acme/small', files: [{ path: 'config.json', body: Buffer.from('{}') }] }

/** A pod whose image has none of the packages, and whose pip is this program. */
async function withPip(rig: Rig, program: string): Promise<MoverOptions> {
  const pip = path.join(rig.dir, 'python', 'pip')
  await mkdir(pip, { recursive: true })
  // Only with this file does it stand before the real one.
  await writeFile(path.join(pip, '__init__.py'), '')
  await writeFile(path.join(pip, '__main__.py'), program)
  return {
    env: { PYTHONPATH: path.dirname(pip), PIP_INDEX_URL: 'http://127.0.0.1:9/simple', HF_TOKEN: 'hf_hidden' },
    patch: 'import importlib.metadata; importlib.metadata.version = lambda name: "0"',
  }
}

describe.concurrent('the packages of a pod', () => {
  test('are asked for by name and version, without the secrets', async ({ newRig }) => {
    const rig = await newRig({ models: [model], hub: { tokens: { hf_hidden: [] } } })
    const seen = path.join(rig.dir, 'seen.json')
    const options = await withPip(
      rig,
      `import json, os, sys; json.dump([sys.argv[1:], dict(os.environ)], open(${JSON.stringify(seen)}, "w"))`,
    )
    await rig.mustRun('upload', options)
    await rig.expectUploaded(model)
    const [args, env] = JSON.parse(await readFile(seen, 'utf8')) as [string[], Record<string, string>]
    expect(args[0]).toBe('install')
    expect(await readFile(String(args.at(-1)), 'utf8')).toMatch(/^botocore==\d/m)
    expect(env).toMatchObject({ PIP_INDEX_URL: 'http://127.0.0.1:9/simple' })
    for (const name of ['HF_TOKEN', 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY']) expect(env).not.toHaveProperty(name)
  })

  test('that cannot be had: the cause is in the message', async ({ newRig }) => {
    const rig = await newRig({ models: [model] })
    const options = await withPip(
      rig,
      'print("WARNING: x"); print("ERROR: No matching distribution found for botocore==9"); raise SystemExit(1)',
    )
    const { detail, next } = await rig.mustFail('upload', 1, 'install', options)
    expect(detail).toContain('No matching distribution found for botocore==9')
    expect(next).toContain('--pip-index-url')
    expect(rig.spaces.requests).toEqual([])
  })

  test('that come too slowly: SIGTERM ends the pod and pip', async ({ newRig, onTestFinished }) => {
    const rig = await newRig({ models: [model] })
    const index = createServer().listen(0, '127.0.0.1')
    onTestFinished(() => void index.close())
    await once(index, 'listening')
    const { port } = index.address() as AddressInfo
    const program = `import socket; socket.create_connection(("127.0.0.1", ${port})).recv(1)`
    const mover = rig.startMover('upload', await withPip(rig, program))
    const [asking] = (await once(index, 'connection')) as [Socket]
    const left = once(asking.resume(), 'close')
    mover.kill('SIGTERM')
    expect(await mover.end).toMatchObject({ code: 143, message: { cause: 'stopped' } })
    await left
  })
})
