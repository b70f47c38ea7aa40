import { Faults } from './faults.mts'
import { listen, type SeenRequest } from './http.mts'
import { answerHub, type Shelf } from './hub/api.mts'
import { Links } from './hub/links.mts'
import { type HubRepo, Repository } from './hub/repository.mts'

export type { HubFile, HubRepo } from './hub/repository.mts'

export interface HubOptions {
  /** Address to listen on; default 127.0.0.1. */
  host?: string
  repos: HubRepo[]
  /** Every token the Hub knows, with the gated and private ids it may read. Any other token is refused. */
  tokens?: Record<string, string[]>
  /** Rows of a tree page; the Hub's 1000 by default. */
  pageSize?: number
  /**
   * Whether small files are behind a relative redirect on the same host too, as huggingface.co has done for most of them
   * since 2025 (huggingface/swift-transformers#209). Default: no.
   */
  resolveCache?: boolean
}

/** `server` tells the Hub's own host from the one that keeps the large files. */
export interface HubRequest extends SeenRequest {
  readonly server: 'hub' | 'cdn'
}

export interface Hub {
  url: string
  /** Where the large files are: another name or port than `url`, so that clients must see a change of host. */
  cdnUrl: string
  /** Every request to both, oldest first. */
  requests: HubRequest[]
  faults: Faults<HubRequest>
  links: Links
  /** Makes the repository, or a new commit on its branch main; gives the commit's id. Older commits stay readable. */
  push(repo: HubRepo): Promise<string>
  close(): Promise<void>
}

/** A stand-in for the HuggingFace Hub's model API, as far as the mover and the real `hf download` use it. */
export async function startHub(options: HubOptions): Promise<Hub> {
  const { host = '127.0.0.1', repos, tokens = {}, pageSize = 1000, resolveCache = false } = options
  const requests: HubRequest[] = []
  const faults = new Faults<HubRequest>()
  const links = new Links()
  const names = { repositories: new Map(), renamed: new Map() }
  const shelf: Shelf = { url: '', cdnUrl: '', ...names, tokens, pageSize, resolveCache, links }

  const push = async (repo: HubRepo): Promise<string> => {
    const repository = shelf.repositories.get(repo.id) ?? new Repository(repo)
    const { id } = await repository.push(repo)
    shelf.repositories.set(repo.id, repository)
    for (const former of repo.formerIds ?? []) shelf.renamed.set(former, repo.id)
    return id
  }
  for (const repo of repos) await push(repo)

  const common = { host, requests, faults }
  const hub = await listen<HubRequest>({
    ...common,
    describe: (seen) => ({ ...seen, server: 'hub' }),
    carryOut: async (request) => answerHub(shelf, request),
  })
  const cdn = await listen<HubRequest>({
    ...common,
    describe: (seen) => ({ ...seen, server: 'cdn' }),
    carryOut: async (request) => links.answer(request),
  })
  shelf.url = `http://${host}:${hub.port}`
  // On loopback the second host has a name of its own as well; elsewhere it is told apart by its port.
  shelf.cdnUrl = `http://${host === '127.0.0.1' ? 'localhost' : host}:${cdn.port}`
  return {
    url: shelf.url,
    cdnUrl: shelf.cdnUrl,
    requests,
    faults,
    links,
    push,
    close: async () => {
      await Promise.all([hub.close(), cdn.close()])
    },
  }
}
