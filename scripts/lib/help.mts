import { exitCodes } from './failure.mts'
import { wrapLine } from './format.mts'
import { commonOptions, type Option, type OptionName, options } from './options.mts'
import type { Settings } from './settings.mts'

/** What an entry script says about itself. */
export interface Script {
  name: string
  /** What a run with these settings works on: `gpt2 -> s3://bucket`. */
  subject: (settings: Settings) => string
  /** Its target in the Makefile, where that has another name. */
  target?: string
  /** What it is, in a sentence or two. */
  purpose: string
  options: readonly OptionName[]
  /** Options that have to be given: what cannot be undone has no default. */
  named?: readonly OptionName[]
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
  const taken: Option[] = [...names.map((name) => optionOf(script, name)), { flag: 'help', help: 'show this and exit' }]
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

function optionOf({ named, meanings }: Script, name: OptionName): Option {
  const { default: standard, ...option }: Option = options[name]
  const help = meanings?.[name] ?? option.help
  return { ...option, help, ...(standard === undefined || named?.includes(name) ? {} : { default: standard }) }
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
  return wrapLine(text, WIDTH - indent.length)
    .map((line) => `${indent}${line}`)
    .join('\n')
}
