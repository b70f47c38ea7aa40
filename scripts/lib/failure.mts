/** The exit codes that people and schedulers rely on. */
export const exitCodes = { done: 0, failed: 1, usage: 2, timeout: 124, interrupted: 130 } as const

/**
 * What a user can act on: a fact (one sentence that names the object) and the next step.
 *
 * Everything else that is thrown is a defect of ours and is shown with its stack.
 */
export class Failure extends Error {
  /** A stable name of the cause, for machines. */
  readonly reason: string
  next: string
  readonly exitCode: number
  /** The stage in which it happened. */
  stage: string | undefined

  constructor(reason: string, fact: string, next: string, exitCode: number = exitCodes.failed) {
    super(fact)
    this.reason = reason
    this.next = next
    this.exitCode = exitCode
  }
}

/** Ctrl-C, SIGTERM, SIGHUP or a closed pipe: nobody is there any more to tell about progress. */
export class Interrupted extends Error {
  readonly by: string
  /** The stage in which it happened, and how to go on from there. */
  stage: string | undefined
  next: string | undefined

  constructor(by: string) {
    super(`interrupted by ${by}`)
    this.by = by
  }
}
