import { EventEmitter } from 'node:events'

interface Line {
  nanoseconds: bigint
  text: string
}

const origin = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint()
let latest = 0n

/** Nanoseconds since 1970, never the same twice, so that lines have an order. */
function now(): bigint {
  const time = origin + process.hrtime.bigint()
  latest = time > latest ? time : latest + 1n
  return latest
}

/** 2026-11-23T19:51:47.168990069Z */
function format(nanoseconds: bigint): string {
  const seconds = new Date(Number(nanoseconds / 1_000_000_000n) * 1000).toISOString().slice(0, 19)
  return `${seconds}.${String(nanoseconds % 1_000_000_000n).padStart(9, '0')}Z`
}

/** A container's output, line by line with the time each line was complete, as the kubelet keeps it. */
export class ContainerLog {
  readonly #lines: Line[] = []
  readonly #news = new EventEmitter().setMaxListeners(0)
  readonly #rewrite: (line: string) => string
  #ended = false

  /** `rewrite` is applied to each line, e.g. to name paths as the container would. */
  constructor(rewrite: (line: string) => string) {
    this.#rewrite = rewrite
  }

  /** One output stream's sink: keeps what follows the last newline until the rest comes or the stream ends. */
  sink(): { write(chunk: Buffer): void; end(): void } {
    const decoder = new TextDecoder()
    let rest = ''
    return {
      write: (chunk) => {
        const parts = (rest + decoder.decode(chunk, { stream: true })).split('\n')
        rest = parts.pop() ?? ''
        for (const part of parts) this.#add(`${part}\n`)
      },
      end: () => {
        rest += decoder.decode()
        if (rest !== '') this.#add(rest)
        rest = ''
      },
    }
  }

  end(): void {
    this.#ended = true
    this.#news.emit('change')
  }

  /** Hands over the lines asked for; with `follow` also those to come, until the log ends or the reader goes away. */
  async read(
    query: { follow: boolean; timestamps: boolean; tailLines?: number; sinceTime?: number },
    write: (chunk: string) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const since = BigInt(query.sinceTime ?? 0) * 1_000_000n
    const shown = ({ nanoseconds, text }: Line) => (query.timestamps ? `${format(nanoseconds)} ${text}` : text)
    const present = this.#lines.filter((line) => line.nanoseconds >= since)
    const tail = query.tailLines === undefined ? present : present.slice(Math.max(0, present.length - query.tailLines))
    let next = this.#lines.length
    write(tail.map(shown).join(''))
    while (query.follow && !signal.aborted) {
      const fresh = this.#lines.slice(next)
      next = this.#lines.length
      if (fresh.length > 0) write(fresh.map(shown).join(''))
      else if (this.#ended) return
      else await this.#change(signal)
    }
  }

  #change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#news.off('change', done)
        signal.removeEventListener('abort', done)
        resolve()
      }
      this.#news.on('change', done)
      signal.addEventListener('abort', done)
    })
  }

  #add(text: string): void {
    this.#lines.push({ nanoseconds: now(), text: this.#rewrite(text) })
    this.#news.emit('change')
  }
}
