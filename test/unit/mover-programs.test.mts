import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const PYTHON = path.resolve('.venv/bin/python')

test.for([
  ['parts grow with a file so that 10,000 do, and fewer of them are in memory', 'mover_part_size.py'],
  ['connections go where the address says, also where that is IPv6', 'mover_connect.py'],
  ['no answer takes a volley longer than its patience, and closed connections are opened anew', 'mover_volley.py'],
  ['lanes give results in order, and begin nothing behind an error', 'mover_lanes.py'],
])('%s', async ([, program = '']) => {
  const { stdout } = await promisify(execFile)(PYTHON, [path.join(import.meta.dirname, program)])
  expect(stdout).toMatch(/done\n$/)
})
