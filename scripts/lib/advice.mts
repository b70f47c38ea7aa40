import path from 'node:path'
import { quote } from 'zx'
import { type Option, type OptionName, options } from './options.mts'
import type { Session } from './session.mts'
import type { Settings } from './settings.mts'

const PLACE = ['context', 'namespace', 'pv', 'pvc'] as const
const MODEL = [
  'revision',
  'include',
  'exclude',
  'bucket',
  'endpoint',
  'region',
  'hfEndpoint',
  'image',
  'memory',
  'buffer',
  'pipIndexUrl',
] as const
const TARGET = /\bmake (fix-pvc|setup-model|model-to-spaces|model-to-nfs|verify|plan|clean-model)\b(?! [A-Z_]+=)/g
/** Of targets that are called otherwise than their script. */
const SCRIPTS: Readonly<Record<string, readonly [script: string, ...args: string[]]>> = {
  plan: ['setup-model', '--plan'],
  'clean-model': ['clean'],
}

/**
 * An advice whose commands are typed as this run was, by make or by the scripts' files, and name what it was given:
 * pasted as they stand they would mean the default cluster and model. All of ours is written for make in the code.
 */
export function withSettingsNamed(next: string, { settings, target }: Pick<Session, 'settings' | 'target'>): string {
  const told = next.replace(TARGET, (_, advised: string) => {
    const given = givenTo(advised, settings)
    if (target !== undefined) return makeCommand(advised, given, [])
    const [script, ...args] = SCRIPTS[advised] ?? [advised]
    return scriptCommand(script, args, given)
  })
  return target === undefined ? told.replaceAll(/\bARGS=(?=--)/g, '') : told
}

/** What is not a default of what the target takes; of a removal, which is of another model, nothing. */
function givenTo(target: string, settings: Settings): OptionValue[] {
  if (target === 'clean-model') return []
  const isDefault = (name: (typeof PLACE | typeof MODEL)[number]) => {
    const { default: standard }: Option = options[name]
    const value = settings[name]
    return value === undefined || value === standard || (name === 'include' && value.length === 0)
  }
  const names = (target === 'fix-pvc' ? PLACE : [...PLACE, ...MODEL]).filter((name) => !isDefault(name))
  return (target === 'fix-pvc' ? names : (['model', ...names] as const)).map((name) => [name, valuesOf(name, settings)])
}

/** A setting and its values, of which globs have several or none. */
export type OptionValue = [name: OptionName, values: string[]]

export function valuesOf(name: OptionName, settings: Settings): string[] {
  return [settings[name] ?? []].flat().map(String)
}

/** `make verify MODEL=a/b ARGS='--level hashes'`, to paste. */
export function makeCommand(target: string, given: readonly OptionValue[], args: readonly string[]): string {
  const variables = given.map(([name, values]) => {
    const { environment }: Option = options[name]
    return `${name === 'context' ? 'CONTEXT' : environment}=${quote(values.join(' '))}`
  })
  const words = args.map(quoteForSh).join(' ')
  // Where nothing in it needs more, quotes as the README has them.
  const quoted = /^[^'\s]+( [^'\s]+)+$/.test(words) ? `'${words}'` : quote(words)
  return ['make', target, ...variables, ...(args.length > 0 ? [`ARGS=${quoted}`] : [])].join(' ')
}

/** The same by the script's file, in any folder. */
export function scriptCommand(script: string, args: readonly string[], given: readonly OptionValue[]): string {
  const flags = given.flatMap(([name, values]) =>
    (values.length > 0 ? values : ['']).flatMap((value) => [`--${options[name].flag}`, value]),
  )
  const file = path.resolve(import.meta.dirname, '..', `${script}.mts`)
  return [file, ...args, ...flags].map((arg) => quote(arg)).join(' ')
}

/** For the shell of make's recipes, which need not know `$'…'`. */
function quoteForSh(word: string): string {
  return /^[\w/.:=@+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}
