/**
 * A controller's work: keys, each handled once however often it was added meanwhile, never within the write that added it.
 * Timers are cleared on close, so that a test process can end.
 */
export class WorkQueue<K> {
  readonly #handle: (key: K) => void
  readonly #waiting = new Set<K>()
  readonly #timers = new Map<K, NodeJS.Timeout>()
  #scheduled = false
  #closed = false

  constructor(handle: (key: K) => void) {
    this.#handle = handle
  }

  add(key: K): void {
    this.#waiting.add(key)
    if (this.#scheduled || this.#closed) return
    this.#scheduled = true
    setImmediate(() => this.#drain())
  }

  /** Adds the key after the delay; a later call for the same key replaces the earlier one. */
  addAfter(key: K, milliseconds: number): void {
    clearTimeout(this.#timers.get(key))
    if (this.#closed) return
    const limit = 2 ** 31 - 1
    this.#timers.set(
      key,
      setTimeout(() => this.add(key), Math.min(Math.max(milliseconds, 0), limit)),
    )
  }

  close(): void {
    this.#closed = true
    this.#waiting.clear()
    for (const timer of this.#timers.values()) clearTimeout(timer)
    this.#timers.clear()
  }

  #drain(): void {
    this.#scheduled = false
    const keys = [...this.#waiting]
    this.#waiting.clear()
    for (const key of keys) if (!this.#closed) this.#handle(key)
  }
}
