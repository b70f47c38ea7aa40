import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, expect, test } from 'vitest'

const root = path.resolve(import.meta.dirname, '../..')
const dir = mkdtempSync(path.join(os.tmpdir(), 'bench-'))
afterAll(() => rmSync(dir, { recursive: true }))

interface Result {
  shaped: boolean
  table: { row: string; contender: string; bytes: number; link_ratio: number | null; error: string }[]
  claims: { text: string; value: number | null; verdict: string; reason: string }[]
  runs: { row: string; seconds: number; cpu: number; memory: number; staging: number; error: string }[]
  notes: string[]
}

/** A PATH with a Go toolchain, where there is one, and nothing else: no `ip` and `tc`, so that the link is loopback for root too. */
function barePath(): string {
  try {
    const goroot = execFileSync('go', ['env', 'GOROOT'], { cwd: os.tmpdir(), encoding: 'utf8' }).trim()
    symlinkSync(path.join(goroot, 'bin/go'), path.join(dir, 'go'))
  } catch {
    // The bench fetches one from the package registry.
  }
  return dir
}

/** What a benchmark leaves where it keeps models, staging and volumes. */
function leftovers({ pid }: ChildProcess): string[] {
  const parents = [path.join(root, '.cache/bench'), '/dev/shm'].filter((parent) => existsSync(parent))
  return parents.flatMap((parent) => readdirSync(parent)).filter((name) => name.startsWith(`model-bench-${pid}-`))
}

test('the bench moves ours over both hops, proves the bytes, and judges nothing by 8 MB', async () => {
  const json = path.join(dir, 'result.json')
  const flags = ['--rows', 'hop1,hop2', '--only', 'ours', '--size', '8MB', '--json', json]
  const child = spawn(path.join(root, '.venv/bin/python'), [path.join(root, 'test/bench/bench.py'), ...flags], {
    env: { ...process.env, PATH: barePath() },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  expect(code, stderr + stdout).toBe(0)
  expect(leftovers(child)).toEqual([])

  const result: Result = JSON.parse(readFileSync(json, 'utf8'))
  expect(result.shaped).toBe(false)
  expect(result.notes).toEqual([expect.stringContaining('the link is not shaped (ip, tc,')])
  expect(result.table).toMatchObject([
    { row: 'hop1', contender: 'ours', link_ratio: null, error: '' },
    { row: 'hop2', contender: 'ours', link_ratio: null, error: '' },
  ])
  for (const { bytes } of result.table) expect(bytes).toBeGreaterThan(8_000_000)
  expect(result.runs.map(({ row, error }) => ({ row, error }))).toEqual([
    { row: 'hop1', error: '' },
    { row: 'hop2', error: '' },
  ])
  for (const run of result.runs) {
    expect(run.seconds).toBeGreaterThan(0)
    expect(run.cpu).toBeGreaterThan(0)
    // The buffer of 256 MiB is in it, and nothing of the model is on the staging disk.
    expect(run.memory).toBeGreaterThan(256 * 2 ** 20)
    expect(run.staging).toBeLessThan(1_000_000)
  }
  const verdicts = result.claims.map(({ text, verdict, reason }) => `${text}: ${verdict}: ${reason}`)
  const size = 'not asked for: takes --size 4GB --turns 3'
  expect(verdicts).toEqual([
    'hop1: seconds over the raw floor: not asked for: floor was left out',
    "hop1: times faster than the spec's pipeline: not asked for: spec was left out",
    `hop1: CPU seconds a GB: ${size}`,
    `hop2: seconds over bytes/bandwidth: ${size}`,
    'hop2: CPU over aws s3 sync: not asked for: spec was left out',
  ])
  expect(stdout).toMatch(/^\| hop1 +\| 8 MB +\| ours +\|/m)
  expect(stdout).toMatch(/^\| hop2 +\| 8 MB +\| ours +\|/m)
  // In a fresh clone the bench first builds its servers, with Go's own packages: half a minute of CPU.
}, 300_000)
