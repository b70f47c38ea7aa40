import { EventEmitter, once } from 'node:events'
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setImmediate } from 'node:timers/promises'
import { type Content, contentOf, slice } from './content.mts'
import type { Faults } from './faults.mts'

/** One request as a stand-in saw it. `status`, `received` and `sent` grow while it is being answered. */
export interface SeenRequest {
  readonly method: string
  /** The Host header: which name the client used. */
  readonly host: string
  /** Path and query exactly as sent. */
  readonly url: string
  /** Decoded path, without the query. */
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: IncomingHttpHeaders
  readonly range: string | undefined
  /** Whether an Authorization header came along. */
  readonly authorized: boolean
  /** 0 until an answer begins. */
  status: number
  /** Body bytes read from the client. */
  received: number
  /** Body bytes handed to the connection. */
  sent: number
}

/** What a stand-in answers; faults change it before it is sent. */
export interface Answer {
  status: number
  headers?: OutgoingHttpHeaders
  body?: Content
  /** The whole file or object of which `body` is a range. */
  whole?: Content
  /** Break off: before anything is sent, or behind so many body bytes; by closing the connection or by silence. */
  broken?: { how: 'cut' | 'stall'; after?: number }
}

/** One stand-in on one port. */
export interface Service<R extends SeenRequest> {
  host: string
  requests: R[]
  faults: Faults<R>
  /** Adds what this service reads out of a request, for its log. */
  describe(seen: SeenRequest): R
  carryOut(request: R, body: AsyncIterable<Buffer>): Promise<Answer>
}

export interface Listener {
  port: number
  /** Cuts every connection and waits for what is being carried out: nothing that a dead client had sent happens later. */
  hangUp(): Promise<void>
  close(): Promise<void>
}

/** Listens on a free port. Connections stay usable while idle, so that a client never meets a server that just hung up. */
export async function listen<R extends SeenRequest>(service: Service<R>): Promise<Listener> {
  const ends = new EventEmitter()
  let working = 0
  const carryOut = async (request: R, body: AsyncIterable<Buffer>): Promise<Answer> => {
    working += 1
    try {
      return await service.carryOut(request, body)
    } finally {
      working -= 1
      ends.emit('end')
    }
  }
  const counting = { ...service, carryOut }
  const server = createServer((incoming, outgoing) => void converse(counting, incoming, outgoing))
  server.keepAliveTimeout = 120_000
  server.requestTimeout = 0
  server.listen(0, service.host)
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    hangUp: async () => {
      // Connections that wait to be accepted come with the next turn.
      await setImmediate()
      server.closeAllConnections()
      while (working > 0) await once(ends, 'end')
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

async function converse<R extends SeenRequest>(
  service: Service<R>,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  // Kept, as a destroyed message forgets its socket.
  const { socket } = incoming
  const request = service.describe(see(incoming))
  service.requests.push(request)
  try {
    const answer = await service.faults.run(request, socket, counted(incoming, request), (body) =>
      service.carryOut(request, body),
    )
    await send(request, outgoing, answer)
  } catch (error) {
    // A client that left, or that a fault cut off, gets no answer. Anything else is a bug in the stand-in: say so.
    if (socket.destroyed || outgoing.headersSent) {
      socket.destroy()
      return
    }
    console.error(`stand-in failed on ${request.method} ${request.url}:`, error)
    await send(request, outgoing, { status: 500, body: contentOf(`stand-in failed: ${error}`) })
  }
}

function see(incoming: IncomingMessage): SeenRequest {
  const url = incoming.url ?? '/'
  const mark = url.indexOf('?')
  const rawPath = mark < 0 ? url : url.slice(0, mark)
  return {
    method: incoming.method ?? '',
    host: incoming.headers.host ?? '',
    url,
    path: decodePath(rawPath),
    query: new URLSearchParams(mark < 0 ? '' : url.slice(mark + 1)),
    headers: incoming.headers,
    range: incoming.headers.range,
    authorized: incoming.headers.authorization !== undefined,
    status: 0,
    received: 0,
    sent: 0,
  }
}

/** Percent-decoding that leaves a malformed path as it came. */
function decodePath(path: string): string {
  try {
    return decodeURIComponent(path)
  } catch {
    return path
  }
}

async function* counted(incoming: IncomingMessage, request: SeenRequest): AsyncGenerator<Buffer> {
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    request.received += chunk.length
    yield chunk
  }
}

async function send(request: SeenRequest, outgoing: ServerResponse, answer: Answer): Promise<void> {
  const { broken, body = contentOf('') } = answer
  if (broken && broken.after === undefined) {
    if (broken.how === 'cut') outgoing.socket?.destroy()
    else await closed(outgoing)
    return
  }
  request.status = answer.status
  const unannounced = answer.status === 204 || answer.headers?.['transfer-encoding'] !== undefined
  const length = unannounced ? {} : { 'content-length': body.size }
  outgoing.writeHead(answer.status, { ...answer.headers, ...length })
  if (request.method === 'HEAD') {
    outgoing.end()
    return
  }
  const upTo = broken?.after === undefined ? body.size : Math.min(broken.after, body.size)
  outgoing.flushHeaders()
  await pipeline(Readable.from(sending(slice(body, 0, upTo), request)), outgoing, { end: !broken })
  if (broken?.how === 'cut') outgoing.socket?.destroySoon()
  if (broken?.how === 'stall') await closed(outgoing)
}

async function* sending(body: Content, request: SeenRequest): AsyncGenerator<Uint8Array> {
  for await (const chunk of body.read()) {
    request.sent += chunk.length
    yield chunk
  }
}

async function closed(outgoing: ServerResponse): Promise<void> {
  if (!outgoing.destroyed) await once(outgoing, 'close')
}

/** Answers a content, or the one range of it that was asked for: 200, 206 or 416. */
export function rangeAnswer(content: Content, range: string | undefined, headers: OutgoingHttpHeaders): Answer {
  const wanted = parseRange(range, content.size)
  const all = { ...headers, 'accept-ranges': 'bytes' }
  if (!wanted) return { status: 200, headers: all, body: content, whole: content }
  if (wanted.start >= wanted.end) {
    return { status: 416, headers: { 'content-range': `bytes */${content.size}` }, whole: content }
  }
  return {
    status: 206,
    headers: { ...all, 'content-range': `bytes ${wanted.start}-${wanted.end - 1}/${content.size}` },
    body: slice(content, wanted.start, wanted.end),
    whole: content,
  }
}

/** `bytes=a-b`, `bytes=a-` or `bytes=-n` as [start, end); undefined for none and for forms that servers may ignore. */
export function parseRange(range: string | undefined, size: number): { start: number; end: number } | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(range ?? '')
  if (!match || (match[1] === '' && match[2] === '')) return undefined
  if (match[1] === '') return { start: Math.max(0, size - Number(match[2])), end: size }
  const end = match[2] === '' ? size : Math.min(Number(match[2]) + 1, size)
  return { start: Number(match[1]), end }
}
