import type { OutgoingHttpHeaders } from 'node:http'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { bytesOf, type Content, concat, contentOf, flip, type Source, slice } from './content.mts'
import { type Answer, parseRange, type SeenRequest } from './http.mts'

/** A request on its way through a stand-in. An act answers it itself, or carries it out and changes the answer. */
export interface Exchange<R extends SeenRequest> {
  request: R
  socket: Socket
  /** What the client sends. */
  body: AsyncIterable<Buffer>
  /** Does what was asked for, with the client's body or with another one in its place. */
  carryOut(body?: AsyncIterable<Buffer>): Promise<Answer>
}

export type Act<R extends SeenRequest> = (exchange: Exchange<R>) => Promise<Answer>

/** What goes wrong, with which requests, how often (default: always). `hits` counts. */
export interface Fault<R extends SeenRequest> {
  match: (request: R) => boolean
  times?: number
  act: Act<R>
}

/** The faults of one stand-in. All that match a request apply, the first added outermost. */
export class Faults<R extends SeenRequest> {
  #faults: { fault: Fault<R>; hits: number }[] = []

  /** Adds a fault and returns its handle: how many requests it took, and how to take it back. */
  add(fault: Fault<R>): { readonly hits: number; remove(): void } {
    const entry = { fault, hits: 0 }
    this.#faults.push(entry)
    return {
      get hits() {
        return entry.hits
      },
      remove: () => {
        this.#faults = this.#faults.filter((other) => other !== entry)
      },
    }
  }

  clear(): void {
    this.#faults = []
  }

  /** Leads a request through the matching faults to `carryOut`. */
  run(
    request: R,
    socket: Socket,
    body: AsyncIterable<Buffer>,
    carryOut: (body: AsyncIterable<Buffer>) => Promise<Answer>,
  ): Promise<Answer> {
    const striking = this.#faults.filter(
      ({ fault, hits }) => hits < (fault.times ?? Number.POSITIVE_INFINITY) && fault.match(request),
    )
    let next = carryOut
    for (const entry of striking.reverse()) {
      const inner = next
      entry.hits += 1
      next = (given) => entry.fault.act({ request, socket, body: given, carryOut: (own = given) => inner(own) })
    }
    return next(body)
  }
}

/** Whether a request reads the byte at `offset` of its file (no Range header reads all of it). */
export function reads(request: SeenRequest, offset: number): boolean {
  const range = parseRange(request.range, Number.MAX_SAFE_INTEGER)
  return request.method === 'GET' && (!range || (range.start <= offset && offset < range.end))
}

/** Answers this instead of carrying the request out: an error, a redirect, an HTML page with status 200. */
export function answer(status: number, headers: OutgoingHttpHeaders = {}, body: Source = ''): Act<SeenRequest> {
  return async () => ({ status, headers, body: contentOf(body) })
}

/** Closes the connection behind so many body bytes; without a number before any answer and without carrying out. */
export function cut(after?: number): Act<SeenRequest> {
  return broken('cut', after)
}

/** Falls silent behind so many body bytes; without a number before any answer and without carrying out. */
export function stall(after?: number): Act<SeenRequest> {
  return broken('stall', after)
}

function broken(how: 'cut' | 'stall', after?: number): Act<SeenRequest> {
  if (after === undefined) return async () => ({ status: 0, broken: { how } })
  return async ({ carryOut }) => ({ ...(await carryOut()), broken: { how, after } })
}

/** Closes the connection once so many bytes of the request's body have arrived. */
export function cutUpload(after: number): Act<SeenRequest> {
  return ({ body, socket, carryOut }) =>
    carryOut(
      (async function* () {
        let seen = 0
        for await (const chunk of body) {
          seen += chunk.length
          if (seen >= after) {
            socket.destroy()
            throw new Error('upload cut off by a fault')
          }
          yield chunk
        }
      })(),
    )
}

/** Only the first `bytes` of the body, with a Content-Length that agrees: no client notices by counting. */
export function shorten(bytes: number): Act<SeenRequest> {
  return async ({ carryOut }) => {
    const given = await carryOut()
    return given.body ? { ...given, body: slice(given.body, 0, bytes) } : given
  }
}

/** Does not announce the body's length and sends it in chunks of HTTP; breaks off behind so many bytes when given. */
export function inChunks(after?: number): Act<SeenRequest> {
  return async ({ carryOut }) => {
    const given = await carryOut()
    const headers = { ...given.headers, 'transfer-encoding': 'chunked' }
    return { ...given, headers, ...(after === undefined ? {} : { broken: { how: 'cut', after } }) }
  }
}

/** Sends the first `pieces` of so many bytes at a steady pace, then the rest at once. */
export function trickle(pieces: number, bytes: number, milliseconds: number): Act<SeenRequest> {
  return async ({ carryOut }) => {
    const given = await carryOut()
    const { body } = given
    if (!body) return given
    const paced = Array.from({ length: pieces }, (_, piece): Content => {
      const { size, read } = slice(body, piece * bytes, (piece + 1) * bytes)
      return {
        size,
        async *read(start, end) {
          await sleep(milliseconds)
          yield* read(start, end)
        },
      }
    })
    return { ...given, body: concat([...paced, slice(body, pieces * bytes, body.size)]) }
  }
}

/** Flips a bit of the byte at `offset` of the file, in whichever range holds it. */
export function flipByte(offset: number): Act<SeenRequest> {
  return async ({ request, carryOut }) => {
    const given = await carryOut()
    const start = parseRange(request.range, given.whole?.size ?? 0)?.start ?? 0
    return given.body && given.whole ? { ...given, body: flip(given.body, offset - start) } : given
  }
}

/** Answers another range than the asked one, `by` bytes further on, and says so in Content-Range. */
export function shiftRange(by: number): Act<SeenRequest> {
  return async ({ request, carryOut }) => {
    const given = await carryOut()
    if (given.status !== 206 || !given.whole) return given
    const { size } = given.whole
    const asked = parseRange(request.range, size) ?? { start: 0, end: size }
    const [start, end] = [asked.start + by, Math.min(asked.end + by, size)]
    return {
      ...given,
      headers: { ...given.headers, 'content-range': `bytes ${start}-${end - 1}/${size}` },
      body: slice(given.whole, start, end),
    }
  }
}

/** Answers a Range request with 200 and the whole file, as a server without ranges does. */
export function ignoreRange(): Act<SeenRequest> {
  return async ({ carryOut }) => {
    const given = await carryOut()
    if (given.status !== 206 || !given.whole) return given
    const { 'content-range': _, ...headers } = given.headers ?? {}
    return { ...given, status: 200, headers, body: given.whole }
  }
}

/** Changes a JSON answer, for example a listing into a hostile one. */
export function editJson<T>(edit: (document: T) => unknown): Act<SeenRequest> {
  return async ({ carryOut }) => {
    const given = await carryOut()
    if (!given.body) return given
    const document = JSON.parse((await bytesOf(given.body)).toString()) as T
    return { ...given, body: contentOf(JSON.stringify(edit(document))) }
  }
}

/** Waits before carrying out. */
export function delay(milliseconds: number): Act<SeenRequest> {
  return async ({ carryOut }) => {
    await sleep(milliseconds)
    return carryOut()
  }
}

/** Runs a hook before the request is carried out. */
export function runBefore<R extends SeenRequest>(hook: (request: R) => unknown): Act<R> {
  return async ({ request, carryOut }) => {
    await hook(request)
    return carryOut()
  }
}

/** Runs a hook after the request was carried out and before its answer is sent. */
export function runAfter<R extends SeenRequest>(hook: (request: R) => unknown): Act<R> {
  return async ({ request, carryOut }) => {
    const given = await carryOut()
    await hook(request)
    return given
  }
}

/** Runs a hook (that kills the client) and drops the request: what the client asked for never happened. */
export function dieBefore<R extends SeenRequest>(hook: (request: R) => unknown): Act<R> {
  return async ({ request }) => {
    await hook(request)
    return { status: 0, broken: { how: 'cut' } }
  }
}

/** Carries out, runs a hook (that kills the client) and drops the answer: it happened, and the client never knew. */
export function dieAfter<R extends SeenRequest>(hook: (request: R) => unknown): Act<R> {
  return async ({ request, carryOut }) => {
    await carryOut()
    await hook(request)
    return { status: 0, broken: { how: 'cut' } }
  }
}

/** A gate that holds requests until it is opened; `arrived` tells when the first one stands before it. */
export function gate<R extends SeenRequest>(): { act: Act<R>; arrived: Promise<R>; open(): void } {
  let arrive: (request: R) => void
  let open: () => void
  const arrived = new Promise<R>((resolve) => {
    arrive = resolve
  })
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return {
    arrived,
    open: () => open(),
    act: async ({ request, carryOut }) => {
      arrive(request)
      await opened
      return carryOut()
    },
  }
}
