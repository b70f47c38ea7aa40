import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const ROUNDS = 200
const PYTHON = path.resolve('.venv/bin/python')
const PROGRAM = path.join(import.meta.dirname, 'mover_window.py')

test('the window keeps its promises under seeded delays, failures and files that start again', async () => {
  const { stdout } = await promisify(execFile)(PYTHON, [PROGRAM, String(ROUNDS)], { maxBuffer: 2 ** 24 })
  expect(stdout).toContain(`round ${ROUNDS - 1}\n`)
}, 60_000)
