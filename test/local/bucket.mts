import type { S3 } from './s3.mts'
import { signedHeaders } from './spaces/signature.mts'
import { texts } from './spaces/xml.mts'

const REGION = 'atl1'

/** One bucket as a test looks at it from outside: over HTTP, signed, whatever server is behind it. */
export class Bucket {
  readonly name: string
  readonly #s3: S3

  constructor(s3: S3, name: string) {
    this.#s3 = s3
    this.name = name
  }

  /** The object's bytes; undefined when there is none. */
  async get(key: string): Promise<Buffer | undefined> {
    const answer = await this.#call('GET', `/${encodePath(key)}`, [404])
    return answer.status === 404 ? undefined : Buffer.from(await answer.arrayBuffer())
  }

  /** The keys below a prefix, sorted. At most a thousand: tests stay below. */
  async keys(prefix = ''): Promise<string[]> {
    const answer = await this.#call('GET', `?list-type=2&prefix=${encodeURIComponent(prefix)}`)
    return texts(await answer.text(), 'Key').sort()
  }

  async remove(key: string): Promise<void> {
    await this.#call('DELETE', `/${encodePath(key)}`)
  }

  async #call(method: string, rest: string, expected: number[] = []): Promise<Response> {
    const url = new URL(`${this.#s3.url}/${this.name}${rest}`)
    const answer = await fetch(url, { method, headers: signedHeaders({ method, url }, this.#s3, REGION) })
    if (!answer.ok && !expected.includes(answer.status)) {
      throw new Error(`${method} ${url}: ${answer.status} ${await answer.text()}`)
    }
    return answer
  }
}

function encodePath(key: string): string {
  return key.split('/').map(encodeURIComponent).join('/')
}
