import { createHash, type Hash } from 'node:crypto'
import { closeSync, openSync, rmSync, writeSync } from 'node:fs'
import path from 'node:path'
import { type Content, concat, contentOf } from '../content.mts'

/** Bytes that arrived in one request, and how to be rid of them. */
export interface Piece {
  content: Content
  /** Hex. */
  md5: string
  /** Hex. Only computed when asked for. */
  sha256?: string
  discard(): void
}

/** Keeps what clients send: in memory, or in files of a folder so that models bigger than the memory fit. */
export class Store {
  readonly #dir: string | undefined
  #count = 0

  constructor(dir?: string) {
    this.#dir = dir
  }

  /** Takes in a body. A body that ends early throws, and nothing of it is kept. */
  async receive(body: AsyncIterable<Uint8Array>, withSha256 = false): Promise<Piece> {
    const md5 = createHash('md5')
    const sha256 = withSha256 ? createHash('sha256') : undefined
    const hashes = sha256 ? [md5, sha256] : [md5]
    const kept = this.#dir ? await this.#toFile(this.#dir, body, hashes) : await toMemory(body, hashes)
    return { ...kept, md5: md5.digest('hex'), ...(sha256 && { sha256: sha256.digest('hex') }) }
  }

  async #toFile(
    dir: string,
    body: AsyncIterable<Uint8Array>,
    hashes: Hash[],
  ): Promise<Pick<Piece, 'content' | 'discard'>> {
    this.#count += 1
    const file = path.join(dir, `piece-${this.#count}`)
    const discard = () => rmSync(file, { force: true })
    const fd = openSync(file, 'w')
    try {
      // Synchronous writes into the page cache cost less than a thread's round trip for each 64 KiB chunk.
      for await (const chunk of body) {
        for (const hash of hashes) hash.update(chunk)
        for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at)
      }
    } catch (error) {
      discard()
      throw error
    } finally {
      closeSync(fd)
    }
    return { content: contentOf({ file }), discard }
  }
}

async function toMemory(body: AsyncIterable<Uint8Array>, hashes: Hash[]): Promise<Pick<Piece, 'content' | 'discard'>> {
  const chunks: Uint8Array[] = []
  for await (const chunk of body) {
    for (const hash of hashes) hash.update(chunk)
    chunks.push(chunk)
  }
  // Joining them would touch all of it once more, at twice the memory.
  return { content: concat(chunks.map(contentOf)), discard: () => undefined }
}
