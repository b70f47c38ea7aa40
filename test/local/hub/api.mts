import { contentOf } from '../content.mts'
import { type Answer, rangeAnswer, type SeenRequest } from '../http.mts'
import type { Links } from './links.mts'
import { type Commit, type Entry, type Repository, sha1 } from './repository.mts'

/** What the Hub's host needs to answer. */
export interface Shelf {
  url: string
  cdnUrl: string
  repositories: Map<string, Repository>
  /** Former id -> id. */
  renamed: Map<string, string>
  tokens: Record<string, string[]>
  pageSize: number
  resolveCache: boolean
  links: Links
}

const ID = '([^/]+?(?:/[^/]+?)?)'
const ROUTES: [RegExp, (shelf: Shelf, request: SeenRequest, repo: Repository, rest: string[]) => Answer][] = [
  [new RegExp(`^/api/models/${ID}/revision/([^/]+)$`, 'd'), (_shelf, request, repo, [rev]) => info(request, repo, rev)],
  [
    new RegExp(`^/api/models/${ID}/tree/([^/]+)$`, 'd'),
    (shelf, request, repo, [rev]) => tree(shelf, request, repo, rev),
  ],
  [new RegExp(`^/api/models/${ID}/auth-check$`, 'd'), authCheck],
  [new RegExp(`^/api/models/${ID}$`, 'd'), (_shelf, request, repo) => info(request, repo, 'main')],
  [new RegExp(`^/${ID}/resolve/([^/]+)/(.+)$`, 'd'), resolve],
  [new RegExp(`^/api/resolve-cache/models/${ID}/([^/]+)/(.+)$`, 'd'), resolveFromCache],
]

/** The answer of the Hub's host. A call it does not know is 501, so that no test passes on a wrong answer. */
export function answerHub(shelf: Shelf, request: SeenRequest): Answer {
  // The real client asks for this at its start and takes any error for "no".
  if (request.path === '/api/agent-harnesses') return refuse(404, 'Not Found')
  const path = request.url.replace(/\?.*/s, '')
  for (const [pattern, handler] of ROUTES) {
    const match = pattern.exec(path)
    const [, id, ...rest] = match?.map(decodeURIComponent) ?? []
    if (id === undefined || !['GET', 'HEAD'].includes(request.method)) continue
    const renamed = shelf.renamed.get(id)
    if (renamed) {
      const [start, end] = match?.indices?.[1] ?? [0, 0]
      return { status: 307, headers: { location: request.url.slice(0, start) + renamed + request.url.slice(end) } }
    }
    const repo = shelf.repositories.get(id)
    return badToken(shelf, request) ?? hidden(shelf, request, repo) ?? handler(shelf, request, repo as Repository, rest)
  }
  return refuse(501, `the Hub stand-in does not know ${request.method} ${request.url}`)
}

function tokenOf(request: SeenRequest): string | undefined {
  return /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1]
}

function mayRead(shelf: Shelf, request: SeenRequest, repo: Repository): boolean {
  return shelf.tokens[tokenOf(request) ?? '']?.includes(repo.id) ?? false
}

function badToken(shelf: Shelf, request: SeenRequest): Answer | undefined {
  const known = !request.authorized || Object.hasOwn(shelf.tokens, tokenOf(request) ?? '')
  return known ? undefined : refuse(401, 'Invalid credentials in Authorization header')
}

/** A private repository looks like a missing one; and to those without a token both look like a missing login. */
function hidden(shelf: Shelf, request: SeenRequest, repo: Repository | undefined): Answer | undefined {
  if (repo && (!repo.private || mayRead(shelf, request, repo))) return undefined
  if (!request.authorized) return refuse(401, 'Invalid username or password.', 'RepoNotFound')
  return refuse(404, 'Repository not found', 'RepoNotFound')
}

function gate(shelf: Shelf, request: SeenRequest, repo: Repository): Answer | undefined {
  if (!repo.gated || mayRead(shelf, request, repo)) return undefined
  const { id } = repo
  if (!request.authorized) {
    return refuse(
      401,
      `Access to model ${id} is restricted. You must have access to it and be authenticated to access it. Please log in.`,
      'GatedRepo',
    )
  }
  return refuse(
    403,
    `Access to model ${id} is restricted and you are not in the authorized list. Visit ${shelf.url}/${id} to ask for access.`,
    'GatedRepo',
  )
}

function authCheck(shelf: Shelf, request: SeenRequest, repo: Repository): Answer {
  return gate(shelf, request, repo) ?? json({})
}

function withCommit(repo: Repository, revision: string, use: (commit: Commit) => Answer): Answer {
  const commit = repo.at(revision)
  return commit ? use(commit) : refuse(404, `Invalid rev id: ${revision}`, 'RevisionNotFound')
}

function info(request: SeenRequest, repo: Repository, revision = 'main'): Answer {
  const blobs = request.query.get('blobs') === 'true'
  return withCommit(repo, revision, ({ id, entries }) =>
    json({
      id: repo.id,
      modelId: repo.id,
      sha: id,
      private: repo.private,
      gated: repo.gated ? 'manual' : false,
      siblings: [...entries.values()].map((entry) => ({
        rfilename: entry.path,
        ...(blobs && {
          size: entry.size,
          blobId: entry.oid,
          ...(entry.lfs && { lfs: { ...entry.lfs, size: entry.size } }),
        }),
      })),
    }),
  )
}

/** All files and folders below the root, a page at a time; the next page is a Link. */
function tree(shelf: Shelf, request: SeenRequest, repo: Repository, revision = 'main'): Answer {
  if (request.query.get('recursive')?.toLowerCase() !== 'true') {
    return refuse(501, 'the Hub stand-in lists trees recursively only')
  }
  return withCommit(repo, revision, (commit) => {
    const rows = treeRows(commit)
    const from = Number(request.query.get('cursor') ?? 0)
    const upTo = from + Math.min(Number(request.query.get('limit') ?? shelf.pageSize), shelf.pageSize)
    const next = new URLSearchParams(request.query)
    next.set('cursor', String(upTo))
    const link = `<${shelf.url}${request.url.replace(/\?.*/s, '')}?${next}>; rel="next"`
    return json(rows.slice(from, upTo), upTo < rows.length ? { link } : {})
  })
}

function treeRows({ entries }: Commit): object[] {
  const folders = new Set<string>()
  const rows: object[] = []
  for (const entry of entries.values()) {
    const parts = entry.path.split('/')
    for (let depth = 1; depth < parts.length; depth++) {
      const path = parts.slice(0, depth).join('/')
      if (!folders.has(path)) rows.push({ type: 'directory', oid: sha1(path), size: 0, path })
      folders.add(path)
    }
    const { path, size, oid, lfs } = entry
    rows.push({
      type: 'file',
      oid,
      size,
      path,
      ...(lfs && { lfs: { oid: lfs.sha256, size, pointerSize: lfs.pointerSize } }),
    })
  }
  return rows
}

/** A small file itself or the way to the Hub's cache of them; the way to a large one on the second host. */
function resolve(shelf: Shelf, request: SeenRequest, repo: Repository, rest: string[]): Answer {
  return withEntry(shelf, request, repo, rest, (entry, commit) => {
    const headers = { 'x-repo-commit': commit, etag: `"${entry.oid}"`, ...linked(entry) }
    if (!entry.lfs && !shelf.resolveCache) return small(entry, request, headers)
    const path = entry.path.split('/').map(encodeURIComponent).join('/')
    const location = entry.lfs
      ? `${shelf.cdnUrl}${shelf.links.sign(entry)}`
      : `/api/resolve-cache/models/${repo.id}/${commit}/${path}?etag=%22${entry.oid}%22`
    const body = contentOf(`Redirecting to ${location}`)
    return { status: entry.lfs ? 302 : 307, headers: { ...headers, location }, body }
  })
}

function resolveFromCache(shelf: Shelf, request: SeenRequest, repo: Repository, rest: string[]): Answer {
  return withEntry(shelf, request, repo, rest, (entry, commit) =>
    small(entry, request, { 'x-repo-commit': commit, etag: `"${entry.oid}"` }),
  )
}

function small({ content }: Entry, request: SeenRequest, headers: Record<string, string>): Answer {
  return rangeAnswer(content, request.range, { ...headers, 'content-type': 'text/plain; charset=utf-8' })
}

function withEntry(
  shelf: Shelf,
  request: SeenRequest,
  repo: Repository,
  [revision = '', path = '']: string[],
  use: (entry: Entry, commit: string) => Answer,
): Answer {
  const closed = gate(shelf, request, repo)
  if (closed) return closed
  return withCommit(repo, revision, ({ id, entries }) => {
    const entry = entries.get(path)
    return entry ? use(entry, id) : refuse(404, 'Entry not found', 'EntryNotFound')
  })
}

function linked({ lfs, size }: Entry): Record<string, string> {
  return lfs ? { 'x-linked-etag': `"${lfs.sha256}"`, 'x-linked-size': String(size) } : {}
}

function json(document: unknown, headers: Record<string, string> = {}): Answer {
  return {
    status: 200,
    headers: { 'content-type': 'application/json; charset=utf-8', ...headers },
    body: contentOf(JSON.stringify(document)),
  }
}

function refuse(status: number, message: string, code?: string): Answer {
  return {
    status,
    headers: {
      'content-type': 'application/json; charset=utf-8',
      'x-error-message': message,
      ...(code && { 'x-error-code': code }),
    },
    body: contentOf(JSON.stringify({ error: message })),
  }
}
