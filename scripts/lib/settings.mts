import minimist from 'minimist'
import { exitCodes, Failure } from './failure.mts'
import { commonOptions, type Option, type OptionName, options } from './options.mts'

/** What one run is asked to do; frozen. `exclude` undefined: the mover's own default; `memory` undefined: the manifest's. */
export interface Settings {
  model: string
  revision: string
  include: readonly string[]
  exclude: readonly string[] | undefined
  context: string
  namespace: string
  /** Seconds for each Job. */
  timeout: number
  /** Seconds for what may heal by itself. */
  grace: number
  bucket: string
  endpoint: string
  region: string
  hfEndpoint: string
  pv: string
  pvc: string
  image: string
  memory: string | undefined
  buffer: string
  pipIndexUrl: string | undefined
  level: string
  spaces: boolean
  nfs: boolean
  yes: boolean
  repair: boolean
  restart: boolean
  dryRun: boolean
  plan: boolean
  json: boolean
  quiet: boolean
}

export type Environment = Readonly<Record<string, string | undefined>>

const table: Readonly<Record<OptionName, Option>> = options

/**
 * Defaults < environment < flags, for the options a script takes; the other settings keep their defaults.
 *
 * `named` are those that have to be given.
 */
export function readSettings(
  script: string,
  names: readonly OptionName[],
  args: readonly string[],
  env: Environment,
  named: readonly OptionName[] = [],
) {
  const flags = readFlags(script, [...names, ...commonOptions], args)
  const problems: string[] = []

  const given = (name: OptionName): { source: string; values: string[] } | undefined => {
    const option = table[name]
    const flag = flags.get(option.flag)
    if (flag) return { source: `--${option.flag}`, values: flag }
    const text = option.environment && names.includes(name) ? env[option.environment] : undefined
    // An empty one counts: an unset variable of CI never stands for the default cluster.
    if (text === undefined) return undefined
    return { source: `${option.environment}`, values: option.repeatable ? text.split(/\s+/) : [text] }
  }
  const check = (name: OptionName, source: string, value: string) => {
    const option = table[name]
    const problem = value === '' ? 'it is empty' : option.problem?.(value)
    // Where a URL holds its password is known only of one that can be used.
    const hidden = option.value === 'URL' && value !== '' && !PUBLIC.test(value)
    const shown = hidden ? '' : ` ${JSON.stringify(withoutCredentials(value))}`
    if (problem) problems.push(`${source}${shown} cannot be used: ${problem}`)
  }
  const text = (name: OptionName): string | undefined => {
    const found = given(name)
    if (!found) return undefined
    const [value = ''] = found.values
    check(name, found.source, value)
    return value
  }
  const must = (name: OptionName): string => text(name) ?? table[name].default ?? ''
  // An empty glob stands for "none": `--exclude ''`.
  const globs = (name: OptionName): string[] | undefined => {
    const found = given(name)
    const values = found?.values.filter((value) => value !== '')
    for (const value of values ?? []) check(name, found?.source ?? '', value)
    return values
  }

  const settings: Settings = {
    model: must('model'),
    revision: must('revision'),
    include: globs('include') ?? [],
    exclude: globs('exclude'),
    context: must('context'),
    namespace: must('namespace'),
    timeout: Number(must('timeout')),
    grace: Number(must('grace')),
    bucket: must('bucket'),
    endpoint: must('endpoint'),
    region: must('region'),
    hfEndpoint: must('hfEndpoint'),
    pv: must('pv'),
    pvc: must('pvc'),
    image: must('image'),
    memory: text('memory'),
    buffer: must('buffer'),
    pipIndexUrl: text('pipIndexUrl'),
    level: must('level'),
    spaces: flags.has('spaces'),
    nfs: flags.has('nfs'),
    yes: flags.has('yes'),
    repair: flags.has('repair'),
    restart: flags.has('restart'),
    dryRun: flags.has('dry-run'),
    plan: flags.has('plan'),
    json: flags.has('json'),
    quiet: flags.has('quiet'),
  }
  if (settings.plan && settings.dryRun) problems.push('--plan and --dry-run exclude each other: take one of them')
  for (const name of named) {
    const { flag, value, environment } = table[name]
    if (!given(name))
      problems.push(
        `--${flag} ${value} is needed${environment ? `, or ${environment}` : ''}: there is no default for it here`,
      )
  }
  if (problems.length > 0) throw usage(script, problems.join('\n'))
  return Object.freeze(settings)
}

/** A host alone, with a dot in its name, or a page of the Hub: neither has room for a secret. */
const PUBLIC =
  /^(([a-z][a-z0-9+.-]*:\/\/)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:\d{1,5})?\/?|https?:\/\/(huggingface\.co|hf\.co)\/[\w./-]*)$/

/** A refused value is shown, and terminals and CI keep what is shown: of a URL that went astray no more than its scheme. */
function withoutCredentials(value: string): string {
  return PUBLIC.test(value) ? value : value.replace(/:\/\/.*/s, '://***')
}

/** Whether the help was asked for, however wrong the rest of the line may be. */
export function wantsHelp(args: readonly string[]): boolean {
  const end = args.indexOf('--')
  return args.slice(0, end < 0 ? undefined : end).some((arg) => arg === '--help' || arg === '-h')
}

/** The flags as they were typed, all values text; refuses what minimist alone would let pass. */
function readFlags(script: string, names: readonly OptionName[], args: readonly string[]): Map<string, string[]> {
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

/** The candidate with the fewest edits, unless even that one is rather another word. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const scored = candidates.map((candidate) => ({ candidate, edits: editDistance(word, candidate) }))
  const [best] = scored.sort((a, b) => a.edits - b.edits)
  return best && best.edits <= Math.max(1, Math.floor(best.candidate.length / 2.5)) ? best.candidate : undefined
}

function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, i) => i)
  for (let i = 1; i <= from.length; i += 1) {
    const next = [i]
    for (let j = 1; j <= to.length; j += 1) {
      const replaced = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[to.length] ?? 0
}

function usage(script: string, fact: string): Failure {
  return new Failure('usage', fact, `scripts/${script}.mts --help lists the options`, exitCodes.usage)
}
