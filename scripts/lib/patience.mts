import type { Failure } from './failure.mts'
import { formatSeconds } from './format.mts'
import { KubectlError } from './kubectl.mts'
import { Pace, type Silence, timeoutFailure } from './pace.mts'
import type { Session } from './session.mts'

/** Asks until the cluster answers, for as long as one Job may take; that it does not is said once. */
export function askPatiently<T>(session: Session, ask: () => Promise<T>): Promise<T> {
  const { settings, signal, story } = session
  return new Pace(settings.timeout, signal, story).look(ask, (silence) => overdue(session, silence))
}

/**
 * A write that got no answer may have been done or not: undefined after a pause, and the next look tells.
 *
 * A login that has to renew itself and a webhook that restarts are borne for the grace; a cluster that is away, for the pace.
 */
export async function unlessAway<T>(session: Session, pace: Pace, write: () => Promise<T>): Promise<T | undefined> {
  const asked = performance.now()
  try {
    const done = await write()
    pace.hear()
    return done
  } catch (error) {
    if (!(error instanceof KubectlError)) throw error
    const heals = error.reason === 'unauthorized' || error.reason === 'webhook'
    if (!heals && error.reason !== 'unreachable') throw error
    const silence = pace.miss(error, asked)
    if (heals && silence.seconds >= session.settings.grace) throw error
    if (pace.over) throw overdue(session, silence)
    await pace.wait()
    return undefined
  }
}

function overdue({ again }: Session, { error, seconds }: Silence): Failure {
  return timeoutFailure(`${error.message} (for ${formatSeconds(seconds)})`, `once it answers, go on with ${again}`)
}
