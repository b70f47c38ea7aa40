import { readdir, readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { $ } from 'zx'
import { options } from '../../scripts/lib/options.mts'

const readme = await readFile('README.md', 'utf8')
const sources = await Promise.all(
  ['scripts/lib', 'k8s/mover', 'scripts'].map(async (folder) => {
    const names = (await readdir(folder)).filter((name) => /^(run|need)$|\.(mts|py)$/.test(name))
    const texts = await Promise.all(names.map((name) => readFile(`${folder}/${name}`, 'utf8')))
    return texts.join('\n')
  }),
)
const [scripts = '', mover = '', entries = ''] = sources
const rows = [...readme.matchAll(/^\| (`[a-z-]+`(?:, `[a-z-]+`)*) \| …(.+?)… \|/gm)].flatMap(
  ([, causes = '', words = '']) =>
    causes
      .replaceAll('`', '')
      .split(', ')
      .map((cause) => ({ cause, quotes: words.split('…, …') })),
)

test('troubleshooting has every cause that a run can end with, and no other', async () => {
  const program = 'import sys; sys.path.insert(0, "k8s/mover"); import failure; print(*failure.CAUSES)'
  const { stdout } = await $({ quiet: true })`.venv/bin/python -c ${program}`
  const ofMover = stdout.trim().split(' ')
  const ofScripts = [
    ...scripts.matchAll(/(?:permanent|temporary|Failure|super|KubectlError)\(\s*'([a-z-]+)'/g),
    ...scripts.matchAll(/\bcause: '([a-z-]+)'/g),
    ...scripts.matchAll(/'(checkpoint-[a-z]+)'/g),
    ...(/export type KubectlReason =((?:\n {2}\| '[a-z-]+')+)/.exec(scripts)?.[1] ?? '').matchAll(/'([a-z-]+)'/g),
  ].map(([, cause = '']) => cause)
  expect(rows.map(({ cause }) => cause).sort()).toEqual([...new Set([...ofMover, ...ofScripts])].sort())
})

test.each(rows)('troubleshooting quotes $cause from the code', ({ quotes }) => {
  // Sentences are broken over lines in the code, and values stand between their words.
  const flat = (text: string) => text.replaceAll(/"\s*\n?\s*f?"|'\s*\+\s*'|\\/g, '')
  for (const words of quotes) expect(flat(mover) + flat(scripts) + flat(entries)).toContain(words)
})

test('settings names every flag and every variable', () => {
  for (const option of Object.values(options)) {
    expect(readme).toContain(`--${option.flag}`)
    if ('environment' in option) expect(readme).toContain(option.environment)
  }
})

test('every target that the README names is there', async () => {
  const makefile = await readFile('Makefile', 'utf8')
  for (const [, target] of readme.matchAll(/(?:`|^ {4}|\$\()make (?:-s )?([a-z][a-z0-9-]+)/gm))
    expect(makefile, target).toMatch(new RegExp(`^${target}:`, 'm'))
})

test('layout names every flow test that `make e2e` leaves out', async () => {
  const config = await readFile('vitest.config.mts', 'utf8')
  const [, list = ''] = /STAND_INS = \[([^\]]*)\]/.exec(config) ?? []
  const [, said = ''] = /`make e2e`: test\/flow on (.*?)\n {4}\S/s.exec(readme) ?? []
  const leftOut = [...list.matchAll(/'([a-z-]+\*)'/g)].map(([, name = '']) => name)
  const named = [...said.matchAll(/\(([a-z*, -]+)\)/g)].flatMap(([, names = '']) => names.split(', '))
  expect(named.map((name) => (name.endsWith('*') ? name : `${name}*`)).sort()).toEqual(leftOut.sort())
})

test('every link within the README has its heading', () => {
  const headings = [...readme.matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) => anchorOf(heading))
  const links = [...readme.matchAll(/\]\(#([^)]*)\)/g)].map(([, anchor = '']) => anchor)
  expect(links, 'that there are links at all').toContain('settings')
  expect(links.filter((anchor) => !headings.includes(anchor))).toEqual([])
})

/** As GitHub makes them. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-')
}
