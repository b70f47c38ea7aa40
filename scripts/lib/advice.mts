import { quote } from 'zx'
import { type Option, type OptionName, options } from './options.mts'
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
const TARGET = /\bmake (fix-pvc|setup-model|model-to-spaces|model-to-nfs|verify|plan)\b(?! [A-Z_]+=)/g

/** An advice whose make commands name what this run was given: pasted as they stand they would mean the default cluster and model. */
export function withSettingsNamed(next: string, settings: Settings): string {
  return next.replace(TARGET, (command, target: string) => {
    const names = target === 'fix-pvc' ? PLACE : [...PLACE, ...MODEL]
    const model = target === 'fix-pvc' ? [] : [`MODEL=${quote(settings.model)}`]
    return [command, ...model, ...names.flatMap((name) => assignment(name, settings))].join(' ')
  })
}

/** Nothing for a default. */
function assignment(name: (typeof PLACE | typeof MODEL)[number], settings: Settings): string[] {
  const { environment = '', default: standard }: Option = options[name satisfies OptionName]
  const value = settings[name]
  const isDefault = value === undefined || value === standard || (name === 'include' && value.length === 0)
  if (isDefault) return []
  return [`${name === 'context' ? 'CONTEXT' : environment}=${quote([value].flat().join(' '))}`]
}
