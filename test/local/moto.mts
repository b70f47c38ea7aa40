import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { createInterface } from 'node:readline'
import type { S3 } from './s3.mts'

export type { S3 } from './s3.mts'

export interface MotoOptions {
  /** Address to listen on; default 127.0.0.1. */
  host?: string
  /** The bin folder of the virtual environment that holds moto. */
  python: string
}

/** moto's S3 in a process of its own, empty. It checks no signatures. It ends with this process, however that ends. */
export async function startMoto({ host = '127.0.0.1', python }: MotoOptions): Promise<S3> {
  const program = path.join(import.meta.dirname, 'moto_server.py')
  const child = spawn(path.join(python, 'python'), [program, host], { stdio: ['pipe', 'pipe', 'pipe'] })
  const ended = once(child, 'close')
  let complaints = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints = (complaints + text).slice(-4000)
  })
  const [url] = await Promise.race([
    once(createInterface(child.stdout), 'line'),
    ended.then(() => Promise.reject(new Error(`moto ended before it served:\n${complaints}`))),
  ])
  return {
    url: String(url),
    accessKey: 'moto-access-key',
    secretKey: 'moto-secret-key',
    close: async () => {
      child.stdin.end()
      await ended
    },
  }
}
