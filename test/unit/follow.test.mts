import { describe, expect, test, vi } from 'vitest'
import { Interrupted } from '../../scripts/lib/failure.mts'
import { Follower } from '../../scripts/lib/follow.mts'
import { type Kubectl, KubectlError } from '../../scripts/lib/kubectl.mts'
import type { Job, Metadata, Pod } from '../../scripts/lib/objects.mts'
import { transferOptions } from '../../scripts/lib/options.mts'
import { Outcome } from '../../scripts/lib/outcome.mts'
import type { Session } from '../../scripts/lib/session.mts'
import { readSettings } from '../../scripts/lib/settings.mts'
import { Story } from '../../scripts/lib/story.mts'

const GATED = { state: 'failed', cause: 'gated', detail: 'the repository is gated', next: 'ask for access' }
const DONE = { state: 'done', commit: 'c', files: 3, bytes: 9, moved: 4, files_moved: 2, seconds: 1 }
const failed = { type: 'Failed', status: 'True', reason: 'PodFailurePolicy' }
const complete = { type: 'Complete', status: 'True' }

function metadata(name: string, uid: string): Metadata {
  return { name, uid, resourceVersion: '1', creationTimestamp: '2026-01-01T00:00:00Z' }
}

function job(conditions: Job['status']['conditions'] = [], counts: Partial<Job['status']> = {}): Job {
  const template = { metadata: {}, spec: { containers: [] } }
  return {
    kind: 'Job',
    metadata: metadata('j', 'J'),
    spec: { backoffLimit: 1, template },
    status: { conditions, ...counts },
  }
}

function pod(name: string, exitCode: number, message?: object): Pod {
  const terminated = { exitCode, ...(message ? { message: JSON.stringify(message) } : {}) }
  return {
    kind: 'Pod',
    metadata: metadata(name, name),
    spec: { nodeName: 'n', containers: [{ name: 'mover', image: 'i', resources: {} }] },
    status: {
      phase: exitCode === 0 ? 'Succeeded' : 'Failed',
      containerStatuses: [{ name: 'mover', state: { terminated } }],
    },
  }
}

type Look = { job: Job | undefined; pods: Pod[] } | Error

/** Follows a Job that looks like this, one look after the other; the last one stays. `log`: the lines of each pod's. */
async function follow(looks: Look[], args: string[] = [], more: object = {}, log: string[] = []) {
  const said: string[] = []
  const asked: string[] = []
  let count = 0
  let now = looks[0] as Look
  const cluster = {
    find: async () => {
      now = looks[Math.min(count++, looks.length - 1)] as Look
      if (now instanceof Error) throw now
      return now.job
    },
    list: async (kinds: string, selector: string) => {
      asked.push(`${kinds} ${selector}`)
      return now instanceof Error ? [] : now.pods
    },
    eventsIfPermitted: async () => [],
    followLog: async (...[, , , onChunk]: Parameters<Kubectl['followLog']>) => {
      for (const [i, line] of log.entries()) onChunk(Buffer.from(`2026-01-01T00:00:${10 + i}Z ${line}\n`))
      return { code: 0, stdout: '', stderr: '' }
    },
    command: (...words: string[]) => words.join(' '),
    ...more,
  }
  const settings = readSettings('x', [...transferOptions], ['--model', 'a/b', ...args], {})
  const story = new Story((text) => said.push(text))
  story.quiet = settings.quiet
  const session = {
    cluster,
    settings,
    story,
    again: 'AGAIN',
    signal: new AbortController().signal,
  } as unknown as Session
  const end = await new Follower(session, metadata('j', 'J'), true).run().catch((error: unknown) => error)
  return { end, said: said.join(''), asked }
}

describe('a Job that is followed', () => {
  test('is not said to try again when its condition is yet to come, and what failed is permanent', async () => {
    const pods = [pod('p', 64, GATED)]
    const { end, said } = await follow([
      { job: job(), pods },
      { job: job([failed], { failed: 1 }), pods },
    ])
    expect(end).toMatchObject({ reason: 'gated' })
    expect(said).not.toContain('tries again')
  })

  test('nor when it was the last of its pods', async () => {
    const pods = [pod('p1', 1), pod('p2', 1)]
    const { said } = await follow([
      { job: job([], { failed: 1 }), pods: pods.slice(0, 1) },
      { job: job([], { failed: 1 }), pods },
      { job: job([failed], { failed: 2 }), pods },
    ])
    expect(said.match(/pod \w+ .*tries again/g)).toEqual([expect.stringContaining('pod p1 ')])
  })

  test('reports what its last pod moved, and that others were before it', async () => {
    const pods = [pod('p1', 1), pod('p2', 0, DONE)]
    const { end, asked } = await follow([{ job: job([complete], { failed: 1 }), pods }])
    expect(end).toMatchObject({ moved: 4, filesMoved: 2, earlierPods: 1 })
    expect(asked[0], 'by labels that every Job has').toBe('pods batch.kubernetes.io/controller-uid=J')
  })

  test('and cannot be looked at any more goes on: how to come back is said', async () => {
    const forbidden = new KubectlError('forbidden', 'jobs.batch is forbidden', 'ask')
    const { end, said } = await follow([{ job: job(), pods: [] }, forbidden])
    expect(end).toBe(forbidden)
    expect(said).toMatch(/Job j goes on in the cluster; to stop it: delete job j\n +follow it again: AGAIN\n$/)
  })

  test('and left by Ctrl-C says the same to machines, in one line', async () => {
    const { end } = await follow([{ job: job(), pods: [] }, new Interrupted('SIGINT')])
    expect(end).toMatchObject({ next: expect.stringMatching(/^Job j goes on .*\nfollow it again: AGAIN$/) })
    expect(new Outcome().document('x', 'a/b', end)).toMatchObject({
      state: 'interrupted',
      next: 'Job j goes on in the cluster; to stop it: delete job j; follow it again: AGAIN',
    })
  })

  test('and had nothing to move is not told like a transfer', async () => {
    const lines = [
      'progress 0% 0/0 B - MB/s eta - files 0/0 phase planning',
      'already complete: the evidence in Spaces holds',
      'progress 100% 9/9 B - MB/s eta - files 3/3 phase planning',
    ]
    const { said } = await follow([{ job: job([complete]), pods: [pod('p', 0, DONE)] }], [], {}, lines)
    expect(said.trim().split(/\n */)).toEqual(['planning', 'already complete: the evidence in Spaces holds'])
  })

  test('is asked for its pods again once it has ended: the list may be older than its end', async () => {
    let lists = 0
    const list = async () => (++lists === 1 ? [] : [pod('p', 0, DONE)])
    const { end } = await follow([{ job: job([complete]), pods: [] }], [], { list })
    expect(end).toMatchObject({ moved: 4, filesMoved: 2 })
  })

  test('and is gone was deleted, unless nobody has looked for as long as its TTL', async () => {
    const there = { job: job(), pods: [] }
    there.job.spec.ttlSecondsAfterFinished = 3600
    const gone = { job: undefined, pods: [] }
    const { end } = await follow([there, gone])
    expect(end).toMatchObject({ message: 'Job j was deleted while it ran', mayBeDone: false })
    const clock = vi.spyOn(Date, 'now')
    const slept = await follow([there, gone], [], {
      eventsIfPermitted: async () => {
        clock.mockReturnValue(performance.timeOrigin + 4_000_000_000)
        return []
      },
    })
    clock.mockRestore()
    expect(slept.end).toMatchObject({
      message: expect.stringMatching(/is gone since .* removed by its TTL, or deleted/),
      mayBeDone: true,
    })
  })

  test('when nobody answers at the timeout: nothing is claimed, and why is said', async () => {
    const away = new KubectlError('unreachable', 'the cluster of context c does not answer: refused', 'check')
    const { end, said } = await follow([{ job: job(), pods: [] }, away], ['--timeout', '1'])
    expect(end).toMatchObject({ reason: 'timeout', exitCode: 124 })
    expect((end as Error).message).toMatch(
      /^Job j was not seen to end within 1 s: for the last [\d.]+ s the cluster of context c does not answer: refused$/,
    )
    expect(said).toContain('goes on in the cluster, if it is not done; to stop it')
    expect(said.match(/to stop it/g)).toHaveLength(1)
  })
})

describe('the log of a pod that fails', () => {
  const own = Array.from({ length: 12 }, (_, i) => `line ${i + 1}`)
  const progress = 'progress 45% 45/100 B - MB/s eta - files 0/1 phase moving'
  // What the mover ends with is ours to say; its progress is a line that passes.
  const log = [...own.slice(0, 6), progress, ...own.slice(6), 'failed: the repository is gated', 'next: ask for access']
  const pods = [pod('p', 64, GATED)]
  const live: Pod = {
    ...pod('p', 0),
    status: {
      phase: 'Running',
      containerStatuses: [{ name: 'mover', state: { running: { startedAt: '2026-01-01T00:00:10Z' } } }],
    },
  }
  const linesOf = (said: string) => said.split('\n').map((line) => line.trim())

  test.each([
    ['has ended when it is first looked at', []],
    ['is followed until it ends', [{ job: job(), pods: [live] }]],
  ])('is told once, in order, where the pod %s', async (_, before: Look[]) => {
    const { end, said } = await follow([...before, { job: job([failed], { failed: 1 }), pods }], [], {}, log)
    expect(end).toMatchObject({ reason: 'gated' })
    expect(linesOf(said).filter((line) => line.startsWith('line '))).toEqual(own)
    expect(said).not.toContain('ask for access')
  })

  test('is told under --quiet by its last ten lines, once', async () => {
    const { end, said } = await follow([{ job: job([failed], { failed: 1 }), pods }], ['--quiet'], {}, log)
    expect(end).toMatchObject({ reason: 'gated' })
    expect(linesOf(said)).toEqual([...own.slice(-10), ''])
  })

  test('has the words of the mover where its report got lost', async () => {
    for (const quiet of [[], ['--quiet']]) {
      const { said } = await follow([{ job: job([failed], { failed: 1 }), pods: [pod('p', 1)] }], quiet, {}, log)
      expect(linesOf(said).slice(-3)).toEqual(['failed: the repository is gated', 'next: ask for access', ''])
    }
  })
})
