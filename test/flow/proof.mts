import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { expect } from 'vitest'
import type { HubRepo } from '../local/hub.mts'
import type { World } from '../local/world.mts'

/** The evidence document, as far as tests look at it. */
export interface Evidence {
  schema: number
  model: string
  revision: string
  commit: string
  include: string[]
  exclude: string[]
  files: { path: string; size: number; sha256: string }[]
  tool: string
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** Every file below a folder, as paths with `/`, sorted; empty for a folder that is not there. */
export async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch((error) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  const files = entries.filter((entry) => !entry.isDirectory())
  return files.map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name))).sort()
}

/** Demands that a model is staged: both copies hold the Hub's bytes and nothing else, and both say so with the same evidence. */
export async function expectStaged(world: World, repo: HubRepo, leftOut = /^original\//): Promise<Evidence> {
  const wanted = new Map(repo.files.filter(({ path }) => !leftOut.test(path)).map((file) => [file.path, bodyOf(file)]))
  const paths = [...wanted.keys()].sort()
  const folder = path.join(world.volume, repo.id)
  const bytes = await readFile(path.join(folder, '.download-complete'))
  expect(await world.bucket.get(`models/${repo.id}/.upload-complete`), 'evidence in the bucket').toEqual(bytes)

  const evidence = JSON.parse(bytes.toString()) as Evidence
  expect(evidence).toMatchObject({
    schema: 1,
    model: repo.id,
    revision: 'main',
    commit: expect.stringMatching(/^[0-9a-f]{40}$/),
  })
  expect(evidence.files).toEqual(paths.map((name) => described(name, wanted.get(name) as Uint8Array)))

  expect(await filesBelow(folder), 'files on the volume').toEqual(['.download-complete', ...paths].sort())
  const keys = await world.bucket.keys(`models/${repo.id}/`)
  const prefix = `models/${repo.id}/`
  const unreserved = keys.map((key) => key.slice(prefix.length)).filter((name) => !name.startsWith('.upload-'))
  expect(unreserved, 'objects in the bucket').toEqual(paths)
  for (const { path: name, sha256: digest } of evidence.files) {
    expect(sha256(await readFile(path.join(folder, name))), `${name} on the volume`).toBe(digest)
    expect(sha256((await world.bucket.get(prefix + name)) as Buffer), `${name} in the bucket`).toBe(digest)
  }
  return evidence
}

function bodyOf({ path: name, body }: HubRepo['files'][number]): Uint8Array {
  if (body instanceof Uint8Array) return body
  throw new Error(`${name} is kept on disk: tests compare bytes in memory`)
}

function described(name: string, body: Uint8Array) {
  return { path: name, size: body.length, sha256: sha256(body) }
}

export function lastLine(text: string): string {
  return text.trimEnd().split('\n').at(-1) ?? ''
}
