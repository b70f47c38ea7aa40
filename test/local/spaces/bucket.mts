import { createHash } from 'node:crypto'
import { bytesOf, type Content, concat, contentOf } from '../content.mts'
import type { Piece } from './store.mts'
import { S3Error } from './xml.mts'

/** Content type and user metadata, as response headers. */
export type ObjectHeaders = Record<string, string>

export interface StoredObject {
  readonly content: Content
  /** Without quotes: md5 of a single PUT, md5 of the parts' md5s and `-N` of a multipart upload. */
  readonly etag: string
  readonly headers: ObjectHeaders
  lastModified: Date
  bytes(): Promise<Buffer>
}

export interface Part {
  readonly number: number
  readonly content: Content
  readonly etag: string
  lastModified: Date
}

/** An unfinished multipart upload. */
export interface Upload {
  readonly id: string
  readonly key: string
  readonly headers: ObjectHeaders
  readonly parts: Map<number, Part>
  initiated: Date
}

/** A page of a listing: rows and, when there is more, the name behind which the next page starts. */
export interface Page<T> {
  rows: T[]
  next?: string
}

/** One bucket. Tests read it, change dates in it, and replace objects behind the clients' backs. */
export class Bucket {
  readonly name: string
  readonly objects = new Map<string, StoredObject>()
  /** The unfinished ones, by id. */
  readonly uploads = new Map<string, Upload>()
  readonly #now: () => Date
  readonly #discards = new Map<Content, () => void>()
  #count = 0

  constructor(name: string, now: () => Date) {
    this.name = name
    this.#now = now
  }

  /** What another client's PutObject does. */
  replace(key: string, bytes: Uint8Array | string): void {
    const md5 = createHash('md5').update(bytes).digest('hex')
    this.put(key, { content: contentOf(bytes), md5, discard: () => undefined }, {})
  }

  put(key: string, piece: Piece, headers: ObjectHeaders): StoredObject {
    return this.#place(key, [piece.content], piece.md5, headers, [piece.discard])
  }

  delete(key: string): void {
    const object = this.objects.get(key)
    this.objects.delete(key)
    if (object) this.#forget(object.content)
  }

  startUpload(key: string, headers: ObjectHeaders): Upload {
    this.#count += 1
    // Ceph's ids look like this, and a listing of uploads is sorted by key, then id.
    const id = `2~${createHash('sha256').update(`${this.name}/${key} ${this.#count}`).digest('base64url').slice(0, 31)}`
    const upload = { id, key, headers, parts: new Map<number, Part>(), initiated: this.#now() }
    this.uploads.set(id, upload)
    return upload
  }

  /** The upload; NoSuchUpload when it is not this key's, finished or unknown. */
  upload(key: string, id: string): Upload {
    const upload = this.uploads.get(id)
    if (upload?.key !== key) throw new S3Error(404, 'NoSuchUpload')
    return upload
  }

  /** Adds a part, or puts it in the place of the one with its number. */
  addPart(upload: Upload, number: number, piece: Piece): Part {
    const former = upload.parts.get(number)
    if (former) this.#forget(former.content)
    const part = { number, content: piece.content, etag: piece.md5, lastModified: this.#now() }
    this.#discards.set(piece.content, piece.discard)
    upload.parts.set(number, part)
    return part
  }

  abort(upload: Upload): void {
    this.uploads.delete(upload.id)
    for (const part of upload.parts.values()) this.#forget(part.content)
  }

  /** Makes the parts one object. The caller has checked them. */
  complete(upload: Upload, parts: readonly Part[]): StoredObject {
    this.uploads.delete(upload.id)
    const contents = parts.map(({ content }) => content)
    const discards = contents.map((content) => this.#discards.get(content) ?? (() => undefined))
    for (const content of contents) this.#discards.delete(content)
    return this.#place(upload.key, contents, multipartEtag(parts.map(({ etag }) => etag)), upload.headers, discards)
  }

  #place(
    key: string,
    contents: Content[],
    etag: string,
    headers: ObjectHeaders,
    discards: (() => void)[],
  ): StoredObject {
    this.delete(key)
    const [first] = contents
    const content = first && contents.length === 1 ? first : concat(contents)
    this.#discards.set(content, () => {
      for (const discard of discards) discard()
    })
    const object = { content, etag, headers, lastModified: this.#now(), bytes: () => bytesOf(content) }
    this.objects.set(key, object)
    return object
  }

  #forget(content: Content): void {
    this.#discards.get(content)?.()
    this.#discards.delete(content)
  }
}

/** The ETag of a multipart object: md5 over the parts' binary md5s, and their number. */
export function multipartEtag(etags: readonly string[]): string {
  const joined = Buffer.concat(etags.map((etag) => Buffer.from(etag, 'hex')))
  return `${createHash('md5').update(joined).digest('hex')}-${etags.length}`
}

/** The names behind `after` that come first in byte order, at most `max`, and whether there are more. */
export function page<T>(rows: Iterable<[string, T]>, after: string, max: number): Page<[string, T]> {
  const behind = [...rows].filter(([name]) => compare(name, after) > 0).sort(([a], [b]) => compare(a, b))
  const shown = behind.slice(0, max)
  const last = shown.at(-1)
  return behind.length > shown.length && last ? { rows: shown, next: last[0] } : { rows: shown }
}

/** S3 orders by UTF-8 bytes; JavaScript's own order (UTF-16) differs above U+FFFF. */
function compare(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}
