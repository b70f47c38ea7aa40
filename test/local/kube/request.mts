import type { IncomingMessage } from 'node:http'
import type { DeleteOptions } from './deletion.mts'
import { type Kind, kinds } from './kinds.mts'
import type { Json } from './patch.mts'
import { decodeProtobuf } from './protobuf.mts'
import type { PatchType } from './resources.mts'
import { fieldSelector, labelSelector, type Predicate } from './selectors.mts'
import { ApiError, badRequest, Unsupported } from './status.mts'

/** What a request is about. */
export interface Target {
  kind: Kind
  namespace?: string
  name?: string
  subresource?: string
}

export interface LogQuery {
  container?: string
  follow: boolean
  timestamps: boolean
  tailLines?: number
  sinceTime?: number
}

export const patchTypes: Record<string, PatchType> = {
  'application/json-patch+json': 'json',
  'application/merge-patch+json': 'merge',
  'application/strategic-merge-patch+json': 'strategic',
  'application/apply-patch+yaml': 'apply',
}

/** What a path names; undefined when the stand-in serves nothing there. */
export function locate(path: string): Target | undefined {
  const match = /^\/(?:api\/v1|apis\/batch\/v1)\/(?:namespaces\/([^/]+)\/)?([a-z]+)(?:\/([^/]+))?(?:\/([^/]+))?$/.exec(
    path,
  )
  if (!match) return undefined
  const group = path.startsWith('/apis/') ? 'batch' : ''
  const [, namespace, plural, name, subresource] = match.map((part) => part && decodeURIComponent(part))
  const kind = kinds.find((candidate) => candidate.plural === plural && candidate.group === group)
  if (kind && kind.namespaced === (namespace !== undefined)) {
    return {
      kind,
      ...(namespace !== undefined && { namespace }),
      ...(name !== undefined && { name }),
      ...(subresource && { subresource }),
    }
  }
  // `/api/v1/pods`: a namespaced kind over all namespaces. `/namespaces/x/status`: a subresource that looks like a kind.
  return kind?.namespaced && name === undefined ? { kind } : undefined
}

/** The verb as RBAC calls it. */
export function verbOf(method: string, { name }: Target, query: URLSearchParams): string {
  if (method === 'GET') {
    if (['true', '1'].includes(query.get('watch') ?? '')) return 'watch'
    return name === undefined ? 'list' : 'get'
  }
  if (method === 'POST' && name === undefined) return 'create'
  const verb = { PUT: 'update', PATCH: 'patch', DELETE: 'delete' }[method]
  if (!verb || name === undefined) {
    throw new ApiError(405, 'MethodNotAllowed', 'the server does not allow this method on the requested resource')
  }
  return verb
}

/** The label and field selectors of a list or watch. */
export function selected(kind: Kind, query: URLSearchParams): Predicate {
  const labels = labelSelector(query.get('labelSelector') ?? '')
  const fields = fieldSelector(kind, query.get('fieldSelector') ?? '')
  return (object) => labels(object) && fields(object)
}

/** From the body, or else the query, of a DELETE. */
export function deleteOptions(body: Buffer, query: URLSearchParams): DeleteOptions {
  const sent = (body.length > 0 ? parse(body) : {}) as DeleteOptions & { dryRun?: unknown }
  const grace = sent.gracePeriodSeconds ?? query.get('gracePeriodSeconds')
  const policy = (sent.propagationPolicy ?? query.get('propagationPolicy')) as DeleteOptions['propagationPolicy'] | null
  return {
    ...(sent.preconditions && { preconditions: sent.preconditions }),
    ...(policy && { propagationPolicy: policy }),
    ...(grace !== null && grace !== undefined && { gracePeriodSeconds: Number(grace) }),
    dryRun: query.get('dryRun') === 'All' || (Array.isArray(sent.dryRun) && sent.dryRun.includes('All')),
  }
}

export function logQuery(query: URLSearchParams): LogQuery {
  const container = query.get('container')
  const tail = query.get('tailLines')
  const seconds = query.get('sinceSeconds')
  const time = query.get('sinceTime')
  for (const option of ['previous', 'limitBytes', 'stream']) {
    if (!['', 'false', 'All'].includes(query.get(option) ?? '')) throw new Unsupported(`logs with ${option}`)
  }
  return {
    follow: query.get('follow') === 'true',
    timestamps: query.get('timestamps') === 'true',
    ...(container && { container }),
    ...(tail !== null && { tailLines: Number(tail) }),
    ...(time !== null && { sinceTime: Date.parse(time) }),
    ...(seconds !== null && { sinceTime: Date.now() - Number(seconds) * 1000 }),
  }
}

export async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

export function parseObject(request: IncomingMessage, body: Buffer): unknown {
  const binary = request.headers['content-type'] === 'application/vnd.kubernetes.protobuf'
  return binary ? decodeProtobuf(body) : parse(body)
}

export function parse(body: Buffer): Json {
  try {
    return JSON.parse(body.toString()) as Json
  } catch {
    throw badRequest('the request body is not JSON')
  }
}
