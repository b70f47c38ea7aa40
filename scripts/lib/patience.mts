import { KubectlError } from './kubectl.mts'
import { Pace, type Silence, timeoutFailure } from './pace.mts'
import type { Session } from './session.mts'

/** Asks until the cluster answers, for as long as one Job may take; that it does not is said once. */
export function askPatiently<T>({ settings, signal, story, again }: Session, ask: () => Promise<T>): Promise<T> {
  const overdue = ({ error }: Silence) =>
    timeoutFailure(`${error.message} (for ${settings.timeout} s)`, `once it answers, go on with ${again}`)
  return new Pace(settings.timeout, signal, story).look(ask, overdue)
}

/** A write that got no answer may have been done or not: undefined after a pause, and the next look tells. */
export async function unlessAway<T>(pace: Pace, write: () => Promise<T>): Promise<T | undefined> {
  try {
    return await write()
  } catch (error) {
    if (!(error instanceof KubectlError && error.reason === 'unreachable') || pace.over) throw error
    await pace.wait()
    return undefined
  }
}
