import { createHash } from 'node:crypto'
import { type Content, contentOf } from '../content.mts'

export interface HubFile {
  /** Path in the repository, with `/`. */
  path: string
  body: Uint8Array | { file: string }
  /** Kept as a large file, whose SHA-256 the Hub publishes. Default: from 1 MiB on. */
  lfs?: boolean
}

export interface HubRepo {
  /** `org/name`, or one segment. */
  id: string
  files: HubFile[]
  /** Anyone sees the listing, only tokens with access get the files. */
  gated?: boolean
  /** Only tokens with access see that it exists. */
  private?: boolean
  /** Earlier names, which redirect to this one. */
  formerIds?: string[]
  /** Tags on this commit. */
  tags?: string[]
}

/** One file of a commit. `oid` is the git blob id: of the file itself, or of the pointer that stands for a large one. */
export interface Entry {
  path: string
  size: number
  oid: string
  content: Content
  lfs?: { sha256: string; pointerSize: number }
}

export interface Commit {
  id: string
  /** Sorted by path, as git keeps them. */
  entries: Map<string, Entry>
}

const LFS_FROM = 1 << 20

/** A repository with its history: every commit stays readable by its id, `main` and tags name the newer ones. */
export class Repository {
  readonly id: string
  readonly gated: boolean
  readonly private: boolean
  #commits = new Map<string, Commit>()
  #refs = new Map<string, string>()

  constructor({ id, gated = false, private: hidden = false }: HubRepo) {
    this.id = id
    this.gated = gated
    this.private = hidden
  }

  /** Makes the files the new head of `main`. The id depends on the files and on the commit before, on nothing else. */
  async push({ files, tags = [] }: HubRepo): Promise<Commit> {
    const entries = await Promise.all(files.map(entryOf))
    entries.sort((a, b) => (a.path < b.path ? -1 : 1))
    const listing = entries.map(({ path, size, oid }) => `${path}\0${size}\0${oid}\n`).join('')
    const id = sha1(`${this.#refs.get('main') ?? ''}\n${listing}`)
    const commit = { id, entries: new Map(entries.map((entry) => [entry.path, entry])) }
    this.#commits.set(id, commit)
    for (const ref of ['main', ...tags]) this.#refs.set(ref, id)
    return commit
  }

  /** The commit that a branch, a tag or a commit id names. */
  at(revision: string): Commit | undefined {
    return this.#commits.get(this.#refs.get(revision) ?? revision)
  }
}

async function entryOf({ path, body, lfs }: HubFile): Promise<Entry> {
  const content = contentOf(body)
  const { size } = content
  if (!(lfs ?? size >= LFS_FROM)) return { path, size, oid: await blobId(content), content }
  const sha256 = await digest('sha256', content)
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256}\nsize ${size}\n`
  return { path, size, oid: await blobId(contentOf(pointer)), content, lfs: { sha256, pointerSize: pointer.length } }
}

/** Git's name for a file's bytes: SHA-1 over `blob <size>\0` and the bytes. */
function blobId(content: Content): Promise<string> {
  return digest('sha1', content, `blob ${content.size}\0`)
}

async function digest(algorithm: 'sha1' | 'sha256', content: Content, prefix = ''): Promise<string> {
  const hash = createHash(algorithm).update(prefix)
  for await (const chunk of content.read()) hash.update(chunk)
  return hash.digest('hex')
}

export function sha1(text: string): string {
  return createHash('sha1').update(text).digest('hex')
}
