import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { Access } from './access.mts'
import { discover } from './discovery.mts'
import { apiVersion, type Kind, pods } from './kinds.mts'
import type { KubeObject, Pod } from './objects.mts'
import {
  deleteOptions,
  type LogQuery,
  locate,
  logQuery,
  parse,
  parseObject,
  patchTypes,
  readBody,
  selected,
  type Target,
  verbOf,
} from './request.mts'
import type { Resources } from './resources.mts'
import { ApiError, Unsupported } from './status.mts'
import type { Store } from './store.mts'
import { table } from './table.mts'

/** What the server needs of the kubelet: a pod's log as chunks of text, or the API's refusal. */
export interface LogSource {
  stream(pod: Pod, query: LogQuery, write: (chunk: string) => void, signal: AbortSignal): Promise<void>
}

/** A request that the stand-in did not know: tests assert that there were none. */
export interface UnknownCall {
  method: string
  path: string
  why: string
}

interface Sent {
  request: IncomingMessage
  body: Buffer
  warn: (text: string) => void
}

/** The HTTP side: routes, queries and answers. */
export class ApiServer {
  readonly unknownCalls: UnknownCall[] = []
  readonly #store: Store
  readonly #resources: Resources
  readonly #access: Access
  readonly #logs: LogSource
  readonly #sockets = new Set<Socket>()
  #server: Server | undefined
  #port = 0

  constructor(store: Store, resources: Resources, access: Access, logs: LogSource) {
    this.#store = store
    this.#resources = resources
    this.#access = access
    this.#logs = logs
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  /** Listens, on the port it had before if there was one. */
  async start(): Promise<void> {
    const server = createServer((request, response) => void this.#handle(request, response))
    server.on('connection', (socket) => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    })
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(this.#port, '127.0.0.1', resolve)
    })
    this.#port = (server.address() as AddressInfo).port
    this.#server = server
  }

  /** Refuses connections and cuts those that are open, as a killed API server does. */
  async stop(): Promise<void> {
    const server = this.#server
    if (!server) return
    this.#server = undefined
    const closed = new Promise<void>((resolve) => server.close(() => resolve()))
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.url)
    try {
      const body = await readBody(request)
      await this.#route(request, response, url, body)
    } catch (error) {
      // The client went away, or we cut it off: there is nobody to answer.
      if (request.destroyed && !request.complete) return
      if (!(error instanceof ApiError)) console.error(`Kubernetes stand-in: ${request.method} ${url.pathname}:`, error)
      const refusal = error instanceof ApiError ? error : new ApiError(500, 'InternalError', String(error))
      const { code, message } = refusal.status
      if (
        refusal instanceof Unsupported ||
        code === 405 ||
        refusal.status.reason === 'InternalError' ||
        refusal.status.reason === 'UnknownPath'
      ) {
        this.unknownCalls.push({ method: request.method ?? '', path: url.pathname + url.search, why: message })
      }
      if (response.headersSent) response.destroy()
      else
        answer(response, code, {
          ...refusal.status,
          ...(refusal.status.reason === 'UnknownPath' && { reason: 'NotFound' }),
        })
    }
  }

  async #route(request: IncomingMessage, response: ServerResponse, url: URL, body: Buffer): Promise<void> {
    const path = url.pathname
    if (['/readyz', '/livez', '/healthz'].includes(path)) {
      response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' }).end('ok')
      return
    }
    // `kubectl apply` asks for it to patch an object, and does without.
    if (path === '/openapi/v2') throw new ApiError(404, 'NotFound', 'the server could not find the requested resource')
    const found = discover(path)
    if (found) return answer(response, 200, found)
    const review = /^\/apis\/authorization\.k8s\.io\/v1\/selfsubject(access|rules)reviews$/.exec(path)
    if (review && request.method === 'POST') return answer(response, 201, this.#review(request, body))
    const target = locate(path)
    if (!target) throw new ApiError(404, 'UnknownPath', 'the server could not find the requested resource')
    const verb = verbOf(request.method ?? '', target, url.searchParams)
    const { kind, namespace, name, subresource } = target
    this.#access.check({
      verb,
      group: kind.group,
      resource: kind.plural,
      ...(subresource && { subresource }),
      ...(namespace !== undefined && { namespace }),
      ...(name !== undefined && { name }),
    })
    if (target.subresource) return this.#subresource(request, response, target, url.searchParams)
    if (verb === 'watch') return this.#watch(response, target, url.searchParams, request)
    const warn = (text: string) => void response.appendHeader('warning', `299 - ${JSON.stringify(text)}`)
    const result = this.#act(verb, target, url.searchParams, { request, body, warn })
    answer(response, verb === 'create' ? 201 : 200, tabular(request, url.searchParams, target.kind, result))
  }

  #review(request: IncomingMessage, body: Buffer): unknown {
    const sent = parseObject(request, body) as { kind: string; spec?: Record<string, string> }
    return this.#access.review(sent.kind, sent.spec ?? {})
  }

  #act(verb: string, { kind, namespace, name = '' }: Target, query: URLSearchParams, sent: Sent): unknown {
    const { request, body, warn } = sent
    const options = {
      dryRun: query.get('dryRun') === 'All',
      fieldValidation: query.get('fieldValidation') ?? 'Warn',
      warn,
    }
    switch (verb) {
      case 'get':
        return this.#store.read(kind, namespace, name)
      case 'list':
        return this.#list(kind, namespace, query)
      case 'create':
        return this.#resources.create(kind, namespace, parseObject(request, body) as unknown as KubeObject, options)
      case 'update':
        return this.#resources.replace(
          kind,
          namespace,
          name,
          parseObject(request, body) as unknown as KubeObject,
          options,
        )
      case 'patch': {
        const type = patchTypes[(request.headers['content-type'] ?? '').split(';')[0] ?? '']
        if (!type) throw new ApiError(415, 'UnsupportedMediaType', 'the body of the request was in an unknown format')
        const manager = query.get('fieldManager') ?? ''
        return this.#resources.patch(kind, namespace, name, type, parse(body), { ...options, manager })
      }
      default: {
        const uid = this.#store.read(kind, namespace, name).metadata.uid
        const marked = this.#resources.delete(kind, namespace, name, deleteOptions(body, query))
        const details = { name, ...(kind.group && { group: kind.group }), kind: kind.plural, uid }
        return marked ?? { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details }
      }
    }
  }

  #list(kind: Kind, namespace: string | undefined, query: URLSearchParams): unknown {
    const chosen = selected(kind, query)
    const items = this.#store.list(kind, namespace).filter(chosen)
    // Items of a list carry no kind of their own, as in the real API; kubectl adds them.
    return {
      kind: `${kind.kind}List`,
      apiVersion: apiVersion(kind),
      metadata: { resourceVersion: this.#store.version },
      items: items.map(({ kind: _, apiVersion: __, ...item }) => item),
    }
  }

  #watch(
    response: ServerResponse,
    { kind, namespace, name }: Target,
    query: URLSearchParams,
    request: IncomingMessage,
  ): void {
    const chosen = selected(kind, query)
    const wanted = (object: KubeObject) =>
      (namespace === undefined || object.metadata.namespace === namespace) &&
      (name === undefined || object.metadata.name === name) &&
      chosen(object)
    const asked = query.get('resourceVersion')
    const since = asked && asked !== '0' ? Number(asked) : undefined
    response.writeHead(200, { 'content-type': 'application/json' })
    response.flushHeaders()
    const send = (type: string, object: KubeObject) =>
      response.write(`${JSON.stringify({ type, object: tabular(request, query, kind, object) })}\n`)
    if (since === undefined)
      for (const object of this.#store.list(kind, namespace)) if (wanted(object)) send('ADDED', object)
    if (query.get('sendInitialEvents') === 'true') {
      const end = { resourceVersion: this.#store.version, annotations: { 'k8s.io/initial-events-end': 'true' } }
      const bookmark = { kind: kind.kind, apiVersion: apiVersion(kind), metadata: end }
      response.write(`${JSON.stringify({ type: 'BOOKMARK', object: bookmark })}\n`)
    }
    // An object that comes into or out of a selector's sight is added or deleted for that watch.
    const stop = this.#store.subscribe(({ type, kind: changed, object, before }) => {
      if (changed !== kind) return
      const was = before !== undefined && wanted(before)
      const is = type !== 'DELETED' && wanted(object)
      if (is) send(was ? 'MODIFIED' : 'ADDED', object)
      else if (was) send('DELETED', object)
    }, since)
    const seconds = Number(query.get('timeoutSeconds') ?? 0)
    const timer = seconds > 0 ? setTimeout(() => response.end(), seconds * 1000) : undefined
    response.on('close', () => {
      clearTimeout(timer)
      stop()
    })
  }

  async #subresource(
    request: IncomingMessage,
    response: ServerResponse,
    target: Target,
    query: URLSearchParams,
  ): Promise<void> {
    const { kind, namespace, name = '', subresource } = target
    if (kind !== pods || subresource !== 'log' || request.method !== 'GET') {
      throw new Unsupported(`${request.method} of ${kind.plural}/${subresource}`)
    }
    const pod = this.#store.read<Pod>(pods, namespace, name)
    const gone = new AbortController()
    response.on('close', () => gone.abort())
    await this.#logs.stream(pod, logQuery(query), (chunk) => void this.#write(response, chunk), gone.signal)
    this.#write(response, '')
    response.end()
  }

  #write(response: ServerResponse, chunk: string): void {
    if (!response.headersSent) {
      response.writeHead(200, { 'content-type': 'text/plain' })
      response.flushHeaders()
    }
    if (chunk !== '') response.write(chunk)
  }
}

function tabular(request: IncomingMessage, query: URLSearchParams, kind: Kind, result: unknown): unknown {
  const wants = (request.headers.accept ?? '').split(',')[0]?.includes('as=Table')
  return wants ? table(kind, result as KubeObject, query.get('includeObject') ?? 'Metadata') : result
}

function answer(response: ServerResponse, code: number, body: unknown): void {
  response.writeHead(code, { 'content-type': 'application/json' }).end(`${JSON.stringify(body)}\n`)
}
