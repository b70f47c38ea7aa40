import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const PYTHON = path.resolve('.venv/bin/python')
const PROGRAM = path.join(import.meta.dirname, 'bench_check.py')

test('the proof of the bench finds flipped, cut and missing files in the store and on the volume', async () => {
  const { stdout } = await promisify(execFile)(PYTHON, [PROGRAM])
  expect(stdout).toMatch(/done\n$/)
}, 30_000)
