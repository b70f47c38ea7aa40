import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const PYTHON = path.resolve('.venv/bin/python')
const PROGRAM = path.join(import.meta.dirname, 'bench_claims.py')

test('every claim of the bench can hold, fail, go unjudged and not be asked for, and decides the exit code', async () => {
  const { stdout } = await promisify(execFile)(PYTHON, [PROGRAM])
  expect(stdout).toMatch(/done\n$/)
})
