import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const PYTHON = path.resolve('.venv/bin/python')
const PROGRAM = path.join(import.meta.dirname, 'mover_part_size.py')

test('parts grow with a file so that 10,000 do, and fewer of them are in memory', async () => {
  const { stdout } = await promisify(execFile)(PYTHON, [PROGRAM])
  expect(stdout).toMatch(/done\n$/)
})
