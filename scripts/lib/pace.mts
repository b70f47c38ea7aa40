import { setTimeout as sleep } from 'node:timers/promises'
import { throwIfInterrupted } from './child.mts'
import { exitCodes, Failure } from './failure.mts'
import { KubectlError } from './kubectl.mts'
import type { Story } from './story.mts'

const FIRST_MS = 250
const LONGEST_MS = 1000

/** A cluster that does not answer: its last words, and for how long. */
export interface Silence {
  error: KubectlError
  seconds: number
}

/**
 * The rhythm of looking at the cluster until something is so: quick at first, then every second, up to a deadline.
 *
 * A cluster that does not answer meanwhile (a laptop that sleeps, a VPN that drops) is said once and ridden out.
 */
export class Pace {
  /** By the clock that stands still while a laptop sleeps. */
  readonly #deadline: number
  readonly #signal: AbortSignal
  readonly #story: Story
  #pause = FIRST_MS
  /** Since when it has not answered. */
  #silentSince: number | undefined

  constructor(seconds: number, signal: AbortSignal, story: Story) {
    this.#deadline = performance.now() + seconds * 1000
    this.#signal = signal
    this.#story = story
  }

  get over(): boolean {
    return performance.now() >= this.#deadline
  }

  async wait(): Promise<void> {
    const left = Math.max(0, this.#deadline - performance.now())
    try {
      await sleep(Math.min(this.#pause, left), undefined, { signal: this.#signal })
    } catch {
      throwIfInterrupted(this.#signal)
    }
    this.#pause = Math.min(this.#pause * 1.5, LONGEST_MS)
  }

  /** Looks until there is an answer; throws what `overdue` makes when the deadline comes first, out of why there was none. */
  async look<T>(look: () => Promise<T>, overdue: (silence: Silence) => Failure): Promise<T> {
    for (;;) {
      const asked = performance.now()
      try {
        const found = await look()
        this.hear()
        return found
      } catch (error) {
        if (!(error instanceof KubectlError) || !mayPass(error)) throw error
        const silence = this.miss(error, asked)
        if (this.over) throw overdue(silence)
      }
      await this.wait()
    }
  }

  /** The cluster has answered. */
  hear(): void {
    if (this.#silentSince !== undefined) this.#story.detail('the cluster answers again')
    this.#silentSince = undefined
  }

  /** It has not answered what was `asked` then: that is said once. */
  miss(error: KubectlError, asked: number): Silence {
    if (this.#silentSince === undefined) this.#story.detail(`${error.message}; trying on`)
    this.#silentSince ??= asked
    return { error, seconds: (performance.now() - this.#silentSince) / 1000 }
  }
}

/** Everything but a clear answer: an expired login that renews itself or a proxy's error page look like anything. */
function mayPass({ reason }: KubectlError): boolean {
  return ['unreachable', 'unauthorized', 'kubeconfig', 'webhook', 'other'].includes(reason)
}

export function timeoutFailure(fact: string, next: string): Failure {
  return new Failure('timeout', fact, next, exitCodes.timeout)
}
