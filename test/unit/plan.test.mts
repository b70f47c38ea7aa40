import { expect, test } from 'vitest'
import { describePlan, type Plan } from '../../scripts/lib/plan.mts'
import { readSettings } from '../../scripts/lib/settings.mts'

const settings = readSettings('setup-model', ['model', 'timeout'], ['--model', 'acme/x'], {})
const plan: Plan = {
  commit: '0e9e39f2'.padEnd(40, '0'),
  files: 13,
  bytes: 16.1e9,
  leftOutFiles: 2,
  leftOutBytes: 16.1e9,
  exclude: ['original/*'],
  include: [],
  spacesFiles: 3,
  spacesBytes: 2.1e9,
  volumeFiles: 0,
  volumeBytes: 0,
  changingFiles: 0,
  freeBytes: 100e9,
}

test('says what is there, what would move, and how long that takes at the rate it names', () => {
  const { text, problem } = describePlan(plan, settings, undefined, [])
  expect(problem).toBeUndefined()
  expect(text).toContain('acme/x at commit 0e9e39f2 (main): 13 files, 16.1 GB')
  expect(text).toContain('2 files, 16.1 GB (--exclude original/*)')
  expect(text).toMatch(/to Spaces .* holds 3 files, 2\.1 GB; 14\.0 GB to move: 56 s at 250 MB\/s/)
  expect(text).toMatch(/to NFS .* holds nothing of it; 16\.1 GB to move: 64 s at 250 MB\/s/)
  expect(text).toContain('100 GB free, 16.1 GB needed: it suffices')
})

test.each<[string, Partial<Plan>, string[], RegExp, boolean]>([
  ['nothing to do', { spacesBytes: 16.1e9, volumeBytes: 16.1e9 }, [], /to NFS .*nothing to move/, true],
  ['no room', { freeBytes: 10e9 }, [], /✗ volume +10\.0 GB free, 16\.1 GB needed: 6\.1 GB are missing/, false],
  [
    'longer than the timeout',
    { bytes: 810e9, freeBytes: 9e12 },
    [],
    /! timeout +54 min 0 s .*--timeout 1800: give it 5400/,
    true,
  ],
  ['under readers', { changingFiles: 2 }, ['a', 'b'], /! changes +2 files .*, and pods a, b have it mounted/, true],
  ['under nobody', { changingFiles: 1 }, [], /• changes +1 file .*; no pod has it mounted/, true],
])('says %s', (_, numbers, readers, line, good) => {
  const described = describePlan({ ...plan, ...numbers }, settings, undefined, readers)
  expect(described.text).toMatch(line)
  if (good) expect(described.problem).toBeUndefined()
  else
    expect(described.problem).toMatchObject({
      cause: 'no-space',
      detail: expect.stringContaining('6.1 GB are missing'),
    })
})

test('claims nothing of a volume that could not be looked at', () => {
  const { text, problem } = describePlan(
    { ...plan, freeBytes: 1, volumeBytes: 5e9, changingFiles: 3 },
    settings,
    'is Pending, not Bound',
    [],
  )
  expect(problem).toBeUndefined()
  expect(text).toMatch(
    /to NFS .*PVC \S+ is Pending, not Bound, so the volume was not looked at; at most 16\.1 GB to move/,
  )
  expect(text).not.toMatch(/free|changes/)
})
