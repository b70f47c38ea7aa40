import { StringDecoder } from 'node:string_decoder'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Kubectl } from './kubectl.mts'
import { CONTAINER } from './labels.mts'

/** The mover writes a line every 10 s. */
const SILENT_MS = 35_000
const RETRY_MS = 250
/** What the kubelet itself has to say (a rotated file, too many watchers) stands among the lines without a time. */
const STAMP = /^\d{4}-\d\d-\d\dT\S+$/

/**
 * The log of one pod, line by line, as it is written.
 *
 * kubectl ends early for many reasons (rotation, proxies, an API server that restarts); `resume` then goes on behind the
 * last line that was seen. Time stamps are what tells a line seen from a new one.
 */
export class PodLog {
  readonly pod: string
  readonly #cluster: Pick<Kubectl, 'followLog'>
  readonly #onLine: (line: string) => void
  readonly #stop = new AbortController()
  /** When the last line came, or the log was last asked for. */
  #heard = 0
  #connection = new AbortController()
  #running: Promise<void> | undefined
  #drained = false
  #lastStamp = ''
  /** Lines with the last stamp, of which there may be several. */
  #lastLines = new Set<string>()
  /** kubectl's words for why the log cannot be read; undefined since a line came. */
  trouble: string | undefined

  constructor(cluster: Pick<Kubectl, 'followLog'>, pod: string, onLine: (line: string) => void) {
    this.#cluster = cluster
    this.pod = pod
    this.#onLine = onLine
  }

  /** Follows the log unless that is under way; `last`: nothing is written any more, so once will do. */
  resume(last: boolean): void {
    if (this.#running) {
      // A connection that nobody closed (a laptop slept, a VPN changed) looks like a mover that says nothing.
      if (performance.now() - this.#heard > SILENT_MS) this.#connection.abort()
      return
    }
    if (this.#drained || this.#stop.signal.aborted) return
    this.#heard = performance.now()
    this.#connection = new AbortController()
    const decoder = new StringDecoder('utf8')
    let rest = ''
    const onChunk = (chunk: Buffer) => {
      const lines = (rest + decoder.write(chunk)).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) this.#take(line)
    }
    // A log that cannot be had is no failure of the Job: the next look at it tries again, and whoever waits is told.
    this.#running = this.#cluster
      .followLog(
        this.pod,
        CONTAINER,
        this.#lastStamp || undefined,
        onChunk,
        AbortSignal.any([this.#stop.signal, this.#connection.signal]),
      )
      .then(({ code, stderr }) => {
        if (code === 0) this.#drained = last
        else this.trouble = stderr.trim().split('\n').at(-1) || 'kubectl says nothing'
      })
      .catch(() => undefined)
      .finally(() => {
        this.#running = undefined
      })
  }

  /** Takes the rest of a log whose pod has ended, but does not wait for it long. */
  async drain(milliseconds: number): Promise<void> {
    const timer = setTimeout(() => this.#stop.abort(), milliseconds)
    while (!this.#drained && !this.#stop.signal.aborted) {
      this.resume(true)
      await this.#running
      if (!this.#drained) await sleep(RETRY_MS)
    }
    clearTimeout(timer)
    await this.end()
  }

  async end(): Promise<void> {
    this.#stop.abort()
    await this.#running
  }

  #take(stamped: string): void {
    this.#heard = performance.now()
    const space = stamped.indexOf(' ')
    const stamp = stamped.slice(0, space)
    this.trouble = undefined
    if (!STAMP.test(stamp)) {
      this.#onLine(stamped)
      return
    }
    if (stamp < this.#lastStamp || this.#lastLines.has(stamped)) return
    if (stamp !== this.#lastStamp) this.#lastLines.clear()
    this.#lastStamp = stamp
    this.#lastLines.add(stamped)
    this.#onLine(stamped.slice(space + 1))
  }
}
