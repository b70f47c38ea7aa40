import { createReadStream, statSync } from 'node:fs'
import { Readable } from 'node:stream'

/** Bytes of known size that can be read from any offset without holding all of them: memory, a file, or pieces of these. */
export interface Content {
  readonly size: number
  /** The bytes from `start` up to, not including, `end`, in chunks of at most 1 MiB. */
  read(start?: number, end?: number): AsyncIterable<Uint8Array>
}

/** What callers hand over: bytes, text (sent as UTF-8) or a file on disk. */
export type Source = Uint8Array | string | { file: string }

const CHUNK = 1 << 20

/** The content behind a source. A file's size is taken now: it must not change while it is served. */
export function contentOf(source: Source): Content {
  if (typeof source === 'string') return memory(Buffer.from(source))
  return source instanceof Uint8Array ? memory(source) : disk(source.file)
}

function memory(bytes: Uint8Array): Content {
  return {
    size: bytes.length,
    async *read(start = 0, end = bytes.length) {
      for (let at = start; at < end; at += CHUNK) yield bytes.subarray(at, Math.min(at + CHUNK, end))
    },
  }
}

function disk(file: string): Content {
  const size = statSync(file).size
  return {
    size,
    read: (start = 0, end = size) =>
      start < end ? createReadStream(file, { start, end: end - 1, highWaterMark: CHUNK }) : Readable.from([]),
  }
}

/** The part of a content from `start` up to, not including, `end`, both cut to its size. */
export function slice(content: Content, start: number, end: number): Content {
  const from = Math.min(start, content.size)
  const size = Math.max(0, Math.min(end, content.size) - from)
  return { size, read: (first = 0, last = size) => content.read(from + first, from + last) }
}

/** Contents one after the other, as a finished multipart upload is. */
export function concat(parts: readonly Content[]): Content {
  const size = parts.reduce((sum, part) => sum + part.size, 0)
  return {
    size,
    async *read(start = 0, end = size) {
      let base = 0
      for (const part of parts) {
        const from = Math.max(start - base, 0)
        const to = Math.min(end - base, part.size)
        if (from < to) yield* part.read(from, to)
        base += part.size
      }
    },
  }
}

/** The content with the lowest bit of the byte at `offset` flipped. */
export function flip(content: Content, offset: number): Content {
  return {
    size: content.size,
    async *read(start = 0, end = content.size) {
      let at = start
      for await (const chunk of content.read(start, end)) {
        const inside = offset - at
        at += chunk.length
        if (inside < 0 || inside >= chunk.length) {
          yield chunk
          continue
        }
        const changed = Buffer.from(chunk)
        changed.writeUInt8(changed.readUInt8(inside) ^ 1, inside)
        yield changed
      }
    },
  }
}

/** All bytes at once, for small contents. */
export async function bytesOf(content: Content): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of content.read()) chunks.push(chunk)
  return Buffer.concat(chunks)
}
