import { type Diagnosis, temporary } from './cause.mts'
import { formatSeconds } from './format.mts'
import type { Progress } from './progress.mts'

/** The mover speaks every 10 s: less silence than two of its lines means nothing. */
const SHORTEST_SECONDS = 20

/** Notices that a pod runs and gets nowhere. */
export class Stall {
  readonly #seconds: number
  #since = performance.now()
  #mark = ''
  #phase = ''

  constructor(seconds: number) {
    this.#seconds = Math.max(seconds, SHORTEST_SECONDS)
  }

  /** Another pod begins anew. */
  reset(): void {
    this.#since = performance.now()
    this.#mark = ''
    this.#phase = ''
  }

  note({ phase, bytes, files }: Progress): void {
    const mark = `${phase} ${bytes} ${files}`
    if (mark !== this.#mark) this.#since = performance.now()
    this.#mark = mark
    this.#phase = phase
  }

  /** `look`: a command that shows more; `trouble`: why the log cannot be read. Never fatal: the mover itself gives up what stands still for a minute, and tries again. */
  diagnose(pod: string, look: string, trouble: string | undefined): Diagnosis | undefined {
    if (performance.now() - this.#since < this.#seconds * 1000) return undefined
    if (trouble)
      return {
        ...temporary(
          'no-log',
          `the log of pod ${pod} cannot be read, so that its progress is not known: ${trouble}`,
          `the end of the Job is seen all the same; try it yourself: ${look}`,
        ),
        patient: true,
      }
    const where = this.#phase ? `, in phase ${this.#phase}` : ', and has said nothing'
    return {
      ...temporary(
        'no-progress',
        `pod ${pod} has made no progress for ${formatSeconds(this.#seconds)}${where}`,
        `it goes on trying; check what it talks to, and look at its log: ${look}`,
      ),
      patient: true,
    }
  }
}
