// For make, which calls it with names that are no settings: what they were meant to be, where they resemble any.
// Example: scripts/run scripts/meant.mts MODLE -- MODEL CONTEXT
import { meantSetting } from './lib/settings.mts'

const [, , ...args] = process.argv
const end = args.indexOf('--')
const known = args.slice(end + 1)
const meant = args.slice(0, end).flatMap((name) => meantSetting(name, known) ?? [])
if (meant.length > 0) console.log(`did you mean ${meant.join(' and ')}?`)
