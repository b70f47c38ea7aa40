import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import type { S3 } from './s3.mts'

/** A call that the server refused. */
export class S3Refusal extends Error {
  readonly code: string
  readonly status: number

  constructor(operation: string, code: string, status: number) {
    super(`${operation}: ${status} ${code}`)
    this.code = code
    this.status = status
  }
}

/** botocore, the client that the mover uses, in a Python process: an S3 server is right when this one understands it. */
export class S3Client {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>
  readonly #lines: AsyncIterator<string>

  /** `bin` is the virtual environment's; `checksums` is botocore's setting, `when_required` in the mover. */
  constructor(bin: string, s3: Pick<S3, 'url' | 'accessKey' | 'secretKey'>, checksums = 'when_required') {
    this.#child = spawn(path.join(bin, 'python'), [path.join(import.meta.dirname, 's3_client.py')], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: {
        PATH: process.env.PATH,
        S3_URL: s3.url,
        AWS_ACCESS_KEY_ID: s3.accessKey,
        AWS_SECRET_ACCESS_KEY: s3.secretKey,
        AWS_DEFAULT_REGION: 'atl1',
        CHECKSUMS: checksums,
      },
    })
    this.#lines = createInterface(this.#child.stdout)[Symbol.asyncIterator]()
  }

  /** Makes one API call, without retries, and gives its parsed result. Bodies go and come as buffers. */
  async call<T = Record<string, unknown>>(operation: string, parameters: object): Promise<T> {
    const coded = Object.entries(parameters).map(([name, value]) => [name, encode(value)])
    this.#child.stdin.write(`${JSON.stringify([operation, Object.fromEntries(coded)])}\n`)
    const { value, done } = await this.#lines.next()
    if (done) throw new Error(`the S3 client ended in ${operation}`)
    const { result, error, status } = JSON.parse(value, decode)
    if (error !== undefined) throw new S3Refusal(operation, error, status)
    return result
  }

  async close(): Promise<void> {
    this.#child.stdin.end()
    if (this.#child.exitCode === null) await once(this.#child, 'exit')
  }
}

function encode(value: unknown): unknown {
  return Buffer.isBuffer(value) ? { base64: value.toString('base64') } : value
}

function decode(_key: string, value: unknown): unknown {
  const body = value as { base64?: string } | null
  return typeof body?.base64 === 'string' ? Buffer.from(body.base64, 'base64') : value
}
