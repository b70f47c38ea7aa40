import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, expect, test } from 'vitest'

const PYTHON = path.resolve('.venv/bin/python')
const SEEDS = 200
/** Seconds that failing calls waited between their tries, by what the server asked for; no time passes. */
const PROGRAM = `
import json, random, sys, threading
sys.path.insert(0, "k8s/mover")
import retry, web
from failure import Failure

class Stop(threading.Event):
    def wait(self, timeout=None):
        waits.append(timeout)
        return False

def fail(cause, asked):
    raise Failure(cause, "x", retry_after=asked)

rows = {}
for asked in (None, 0.0, 1.0, 30.0, 86400.0):
    rows[str(asked)] = []
    for seed in range(${SEEDS}):
        random.seed(seed)
        waits = []
        try:
            retry.retry(lambda: fail("spaces-busy", asked), Stop())
        except Failure:
            rows[str(asked)].append(waits)
waits = []
try:
    retry.retry(lambda: retry.retry(lambda: fail("wrong-answer", None), Stop()), Stop())
except Failure:
    nested = len(waits)
headers = ['"api";r=0;t=120', '"api";r=0;t=120, "resolvers";r=50;t=3', '"api";r=3;t=9', '"a";r=5;t=1, "b";r=0;t=7']
limits = [web.retry_after({"RateLimit": header}) for header in headers]
past = web.retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})
print(json.dumps({"rows": rows, "nested": nested, "limits": limits, "past": past, "stall": web.STALL_SECONDS}))
`

interface Said {
  rows: Record<string, number[][]>
  nested: number
  limits: (number | null)[]
  past: number
  stall: number
}
let said: Said

beforeAll(async () => {
  const { stdout } = await promisify(execFile)(PYTHON, ['-c', PROGRAM], { maxBuffer: 2 ** 24 })
  // The log of each try stands before it.
  said = JSON.parse(stdout.trim().split('\n').at(-1) ?? '')
})

const backoff = (attempt: number) => Math.min(20, 0.5 * 2 ** attempt)

test('backs off exponentially with jitter, up to 20 s', () => {
  const rows = said.rows.None ?? []
  expect(rows).toHaveLength(SEEDS)
  for (const waits of rows) {
    expect(waits).toHaveLength(7)
    for (const [attempt, wait] of waits.entries()) {
      expect(wait).toBeGreaterThanOrEqual(0.2 * backoff(attempt))
      expect(wait).toBeLessThanOrEqual(backoff(attempt))
    }
  }
  for (let attempt = 0; attempt < 7; attempt++) {
    expect(new Set(rows.map((waits) => waits[attempt])).size, `waits before try ${attempt + 2}`).toBeGreaterThan(
      SEEDS / 2,
    )
  }
})

test.each(['0.0', '1.0', '30.0'])('waits no less where the server asks for %s s, and no less than that', (asked) => {
  for (const waits of said.rows[asked] ?? []) {
    expect(waits).toHaveLength(7)
    for (const [attempt, wait] of waits.entries()) {
      expect(wait).toBeGreaterThanOrEqual(Math.max(Number(asked), 0.2 * backoff(attempt)))
      expect(wait).toBeLessThanOrEqual(Math.max(Number(asked) + 0.5, backoff(attempt)))
    }
  }
})

test('never waits longer than the ten minutes that an honest server asks for', () => {
  expect(Math.max(...(said.rows['86400.0'] ?? []).flat())).toBeLessThan(601)
})

test('what an inner call has given up on is not tried again', () => expect(said.nested).toBe(5))

test('reads the limit that is used up out of the header of the Hub', () => {
  expect(said.limits).toEqual([120, 120, null, 7])
  expect(said.past).toBe(0)
})

test('a silent connection has failed after a minute', () => expect(said.stall).toBe(60))
