import { exitCodes } from './failure.mts'
import { type Option, type OptionName, options } from './options.mts'

/** What an entry script says about itself. */
export interface Script {
  name: string
  /** What it is, in a sentence or two. */
  purpose: string
  options: readonly OptionName[]
  examples: readonly string[]
  /** Whether it starts Jobs, which go on without it. */
  startsJobs: boolean
}

const WIDTH = 80

export function helpText(script: Script): string {
  const taken: Option[] = [...script.options.map((name) => options[name]), { flag: 'help', help: 'show this and exit' }]
  const rows = taken.map((option) => [spelled(option), option.environment ?? '-', option.default ?? '-'])
  const heading = ['option', 'environment', 'default']
  const widths = [0, 1].map((column) => Math.max(...[heading, ...rows].map((row) => row[column]?.length ?? 0)))
  const line = (row: readonly string[]) =>
    `  ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')}`.trimEnd()

  return [
    wrap(`${script.name}: ${script.purpose}`, ''),
    '',
    `Usage: scripts/${script.name}.mts [options]`,
    '',
    line(heading),
    ...taken.flatMap((option, i) => [line(rows[i] ?? []), wrap(meaning(option), '      ')]),
    '',
    wrap('A flag wins over the environment, the environment over the default.', ''),
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

function meaning({ help, repeatable }: Option): string {
  return repeatable ? `${help} (repeatable; in the environment separated by spaces)` : help
}

function exits({ startsJobs }: Script): string {
  const goesOn = startsJobs ? ' (the Job goes on)' : ''
  const { done, failed, usage, timeout, interrupted } = exitCodes
  return `Exit codes: ${done} done, ${failed} failed, ${usage} wrong usage, ${timeout} timeout${goesOn}, ${interrupted} interrupted${goesOn}.`
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
