/** Why a Job does not go on, or did not end well, and what to do. */
export interface Diagnosis {
  /** A stable name, for machines. */
  cause: string
  /** One sentence that names the object. */
  detail: string
  next: string
  /** It does not heal by waiting. */
  fatal: boolean
  /** It is said, but never ends the wait by itself: the cluster or the mover deals with it in its own time. */
  patient?: true
  /** Seconds after which it ends the wait, where the user's grace is longer. */
  grace?: number
}

export const AGAIN = 'run the same command again: it goes on where this run stopped'

/** It does not heal by waiting. */
export function permanent(cause: string, detail: string, next: string): Diagnosis {
  return { cause, detail, next, fatal: true }
}

/** It may heal: it is said at once, and ends the wait when the grace is over. */
export function temporary(cause: string, detail: string, next: string): Diagnosis {
  return { cause, detail, next, fatal: false }
}

/** What a container runtime means: it wraps one reason into several layers. */
export function lastClause(message: string | undefined): string {
  return (
    message
      ?.replace(/: unknown$/, '')
      .split(' process: ')
      .at(-1) ?? 'no reason given'
  )
}
