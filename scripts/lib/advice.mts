import path from 'node:path'
import { quote } from 'zx'
import { type Option, type OptionName, options, scriptOptions } from './options.mts'
import type { Session } from './session.mts'
import type { Settings } from './settings.mts'

/** What decides which model is meant, and where. */
const NAMED = [
  'model',
  'context',
  'namespace',
  'pv',
  'pvc',
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
type Script = keyof typeof scriptOptions

/**
 * An advice whose commands are typed as this run was, by make or by the scripts' files, and name what it was given:
 * pasted as they stand they would mean the default cluster and model. All of ours is written for make in the code.
 */
export function withSettingsNamed(next: string, { settings, target }: Pick<Session, 'settings' | 'target'>): string {
  const told = next.replace(TARGET, (_, advised: string) => {
    // A removal is of another model.
    if (advised === 'clean-model') return target === undefined ? scriptCommand('clean', [], []) : 'make clean-model'
    const script = advised === 'plan' ? 'setup-model' : (advised as Script)
    const given = givenTo(script, settings)
    if (target !== undefined) return makeCommand(advised, given, [])
    return scriptCommand(script, advised === 'plan' ? ['--plan'] : [], given)
  })
  return target === undefined ? told.replaceAll(/\bARGS=(?=--)/g, '') : told
}

/** The model, and what else of what the script takes is not its default. */
function givenTo(script: Script, settings: Settings): OptionValue[] {
  const isGiven = (name: (typeof NAMED)[number]) => {
    const { default: standard }: Option = options[name]
    const value = settings[name]
    return value !== undefined && value !== standard && !(name === 'include' && value.length === 0)
  }
  const takes: readonly OptionName[] = scriptOptions[script]
  return NAMED.filter((name) => takes.includes(name) && (name === 'model' || isGiven(name))).map((name) => [
    name,
    valuesOf(name, settings),
  ])
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
