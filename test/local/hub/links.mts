import { contentOf } from '../content.mts'
import { type Answer, rangeAnswer, type SeenRequest } from '../http.mts'
import { type Entry, sha1 } from './repository.mts'

/** The signed, expiring links to large files that the Hub hands out, and the host that honours them. */
export class Links {
  /** How many requests each link is good for. */
  uses = Number.POSITIVE_INFINITY
  #links = new Map<string, { entry: Entry; used: number }>()
  #count = 0

  /** A new link to a large file, as the path and query behind the host's name. Each differs from all before. */
  sign(entry: Entry): string {
    this.#count += 1
    const name = encodeURIComponent(entry.path.slice(entry.path.lastIndexOf('/') + 1))
    const signature = sha1(`${this.#count} ${entry.path}`)
    const link = `/repos/${entry.lfs?.sha256}?response-content-disposition=inline%3B+filename%3D%22${name}%22&Signature=${signature}`
    this.#links.set(link, { entry, used: 0 })
    return link
  }

  /** Makes every link handed out so far an expired one. */
  expire(): void {
    this.#links.clear()
  }

  /** The answer of the second host. It knows no accounts, and refuses a request that carries a second kind of signature. */
  answer(request: SeenRequest): Answer {
    if (request.authorized) return refuse(400, 'InvalidArgument', 'Only one auth mechanism allowed')
    const link = this.#links.get(request.url)
    if (!link || link.used >= this.uses) return refuse(403, 'AccessDenied', 'Request has expired')
    link.used += 1
    return rangeAnswer(link.entry.content, request.range, {
      'content-type': 'binary/octet-stream',
      etag: `"${link.entry.lfs?.sha256}"`,
    })
  }
}

function refuse(status: number, code: string, message: string): Answer {
  const body = contentOf(
    `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`,
  )
  return { status, headers: { 'content-type': 'application/xml' }, body }
}
