import { PUBLIC, readFlags, usage, withoutCredentials } from './flags.mts'
import { commonOptions, type Option, type OptionName, options } from './options.mts'
import { nearest } from './spelling.mts'

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

/** The one of `known` variables that a wrong name was meant to be: it may also be a flag's, as in `REVISION=`. */
export function meantSetting(name: string, known: readonly string[]): string | undefined {
  const flags = Object.values(table).flatMap(({ flag, environment }): [string, string][] =>
    environment ? [[flag.replaceAll('-', '_').toUpperCase(), environment]] : [],
  )
  const meanings = new Map([...flags, ...known.map((one): [string, string] => [one, one])])
  const near = nearest(name.toUpperCase(), [...meanings.keys()])
  return near === undefined ? undefined : meanings.get(near)
}
