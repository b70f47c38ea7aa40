import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const PYTHON = path.resolve('.venv/bin/python')
const PROGRAM = path.join(import.meta.dirname, 'mover_lanes.py')

test('lanes give results in order, and begin nothing behind an error', async () => {
  const { stdout } = await promisify(execFile)(PYTHON, [PROGRAM])
  expect(stdout).toMatch(/done\n$/)
})
