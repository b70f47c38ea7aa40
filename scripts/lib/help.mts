import { exitCodes } from './failure.mts'
import { commonOptions, type Option, type OptionName, options } from './options.mts'

/** What an entry script says about itself. */
export interface Script {
  name: string
  /** Its target in the Makefile, where that has another name. */
  target?: string
  /** What it is, in a sentence or two. */
  purpose: string
  options: readonly OptionName[]
  /** What an option means here, where that differs from script to script. */
  meanings?: Partial<Record<OptionName, string>>
  examples: readonly string[]
  /** What becomes of its Jobs when it ends before them. */
  jobs: 'go on' | 'are deleted' | 'none'
}

const WIDTH = 80

export function helpText(script: Script): string {
  const names = (Object.keys(options) as OptionName[]).filter((name) =>
    [...script.options, ...commonOptions].includes(name),
  )
  const taken: Option[] = [
    ...names.map((name) => ({ ...options[name], help: script.meanings?.[name] ?? options[name].help })),
    { flag: 'help', help: 'show this and exit' },
  ]
  const rows = taken.map((option) => [spelled(option), option.environment ?? '-', option.default ?? '-'])
  const heading = ['option', 'environment', 'default']
  const widths = [0, 1].map((column) => Math.max(...[heading, ...rows].map((row) => row[column]?.length ?? 0)))
  const line = (row: readonly string[]) =>
    `  ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')}`.trimEnd()

  return [
    wrap(`${script.name}: ${script.purpose}`, ''),
    '',
    `Usage: scripts/${script.name}.mts [options]`,
    `       make ${script.target ?? script.name} [ARGS='options']`,
    '',
    line(heading),
    ...taken.flatMap((option, i) => [line(rows[i] ?? []), wrap(option.help, '      ')]),
    '',
    wrap(precedence(taken), ''),
    '',
    'Examples:',
    ...script.examples.map((example) => `  ${example}`),
    '',
    wrap(exits(script), ''),
    '',
  ].join('\n')
}

function spelled({ flag, value }: Option): string {
  return value ? `--${flag} ${value}` : `--${flag}`
}

function precedence(taken: readonly Option[]): string {
  const repeatable = taken.filter((option) => option.repeatable).map(({ flag }) => `--${flag}`)
  const globs = `${repeatable.join(' and ')} can be repeated; in the environment globs are separated by spaces.`
  return `A flag wins over the environment, the environment over the default.${repeatable.length > 0 ? ` ${globs}` : ''}`
}

function exits({ jobs }: Script): string {
  const goesOn = jobs === 'go on' ? ' (the Job goes on)' : ''
  const { done, failed, usage, timeout, interrupted } = exitCodes
  const waited = jobs === 'none' ? [] : [`${timeout} timeout${goesOn}`]
  return `Exit codes: ${[`${done} done`, `${failed} failed`, `${usage} wrong usage`, ...waited, `${interrupted} interrupted${goesOn}`].join(', ')}.`
}

function wrap(text: string, indent: string): string {
  const lines: string[] = []
  let line = indent
  for (const word of text.split(' ')) {
    if (line.length + word.length + 1 > WIDTH && line.trim() !== '') {
      lines.push(line)
      line = indent
    }
    line += line.trim() === '' ? word : ` ${word}`
  }
  return [...lines, line].join('\n')
}
