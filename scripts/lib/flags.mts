import minimist from 'minimist'
import { scriptCommand } from './advice.mts'
import { exitCodes, Failure } from './failure.mts'
import { type Option, type OptionName, options } from './options.mts'
import { nearest } from './spelling.mts'

const table: Readonly<Record<OptionName, Option>> = options

/** Whether the help was asked for, however wrong the rest of the line may be. */
export function wantsHelp(args: readonly string[]): boolean {
  const end = args.indexOf('--')
  return args.slice(0, end < 0 ? undefined : end).some((arg) => arg === '--help' || arg === '-h')
}

/** The flags as they were typed, all values text; refuses what minimist alone would let pass. */
export function readFlags(
  script: string,
  names: readonly OptionName[],
  args: readonly string[],
): Map<string, string[]> {
  const taken = names.map((name) => table[name])
  const valued = taken.filter((option) => option.value !== undefined)
  const strange: string[] = []
  const parsed = minimist([...args], {
    string: valued.map((option) => option.flag),
    boolean: taken.filter((option) => option.value === undefined).map((option) => option.flag),
    unknown: (arg) => {
      strange.push(arg)
      return false
    },
  })
  const first = strange[0] ?? parsed._[0] ?? inverted(args)
  if (first !== undefined) throw usage(script, explainStrange(script, first, taken))

  const flags = new Map<string, string[]>()
  for (const option of valued) {
    const value: unknown = parsed[option.flag]
    if (value === undefined) continue
    const missing = args.findIndex((arg, i) => arg === `--${option.flag}` && isFlagOrEnd(args[i + 1]))
    if (missing >= 0)
      throw usage(
        script,
        `--${option.flag} needs a value (one that begins with - is written --${option.flag}=${option.value})`,
      )
    const values = [value].flat().map(String)
    if (values.length > 1 && !option.repeatable) throw usage(script, `--${option.flag} is given ${values.length} times`)
    flags.set(option.flag, values)
  }
  for (const { flag, value } of taken) {
    if (value !== undefined) continue
    // minimist takes `--restart=no` for a yes.
    if (args.some((arg) => arg.startsWith(`--${flag}=`))) throw usage(script, `--${flag} takes no value`)
    if (parsed[flag] === true) flags.set(flag, [])
  }
  return flags
}

/** minimist reads `--no-model` as `model: false` and tells nobody. */
function inverted(args: readonly string[]): string | undefined {
  return args.find((arg) => arg.startsWith('--no-'))
}

function isFlagOrEnd(arg: string | undefined): boolean {
  return arg === undefined || /^-./.test(arg)
}

function explainStrange(script: string, arg: string, taken: readonly Option[]): string {
  if (!arg.startsWith('-'))
    return `${JSON.stringify(withoutCredentials(arg))} is not expected: every value has a flag, such as --model ID`
  const [name = ''] = arg.replace(/^-+/, '').split('=')
  const elsewhere = Object.values(table).find((option) => option.flag === name)
  if (elsewhere) return `--${name} is an option of other scripts, ${script} has no use for it`
  const near = nearest(name, ['help', ...taken.map((option) => option.flag)])
  return `${arg.split('=')[0]} is no option of ${script}${near ? `; did you mean --${near}?` : ''}`
}

/** A wrong use of a script: exit code 2, and where its options are listed. */
export function usage(script: string, fact: string): Failure {
  return new Failure('usage', fact, `${scriptCommand(script, ['--help'], [])} lists the options`, exitCodes.usage)
}

/** What may be shown of a value that was refused: a host alone, with a dot in its name, or a page of the Hub: neither has room for a secret. */
export const PUBLIC =
  /^(([a-z][a-z0-9+.-]*:\/\/)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:\d{1,5})?\/?|https?:\/\/(huggingface\.co|hf\.co)\/[\w./-]*)$/

/** A refused value is shown, and terminals and CI keep what is shown: of a URL that went astray no more than its scheme. */
export function withoutCredentials(value: string): string {
  return PUBLIC.test(value) ? value : value.replace(/:\/\/.*/s, '://***')
}
