import { describe, expect, test, vi } from 'vitest'
import { explain, Kubectl } from '../../scripts/lib/kubectl.mts'
import { PodLog } from '../../scripts/lib/podlog.mts'

const cluster = new Kubectl('demo', 'ns')

describe('what kubectl said is put into', () => {
  // As kubectl 1.32 writes them.
  test.each([
    [
      'Error from server (Forbidden): jobs.batch is forbidden: User "bob" cannot list',
      'forbidden',
      /User "bob" cannot list/,
    ],
    [
      'Error from server (Conflict): Operation cannot be fulfilled on Job.batch "t"',
      'conflict',
      /kubectl get job t ended with exit code 1/,
    ],
    ['Error from server (NotFound): jobs.batch "zzz" not found', 'not-found', /"zzz" not found/],
    [
      'Error from server (AlreadyExists): error when creating "STDIN": jobs.batch "a" already exists',
      'exists',
      /already exists/,
    ],
    [
      'Error from server (NotFound): error when creating "STDIN": namespaces "nope" not found',
      'not-found',
      /no namespace nope in context demo/,
    ],
    ['The Job "a" is invalid: spec.template: Invalid value: field is immutable', 'invalid', /immutable/],
    ['The request is invalid: the server rejected our request due to an error in our request', 'invalid', /rejected/],
    ['Error in configuration: context was not found for specified context: demo', 'no-context', /no context demo/],
    ['error: context "demo" does not exist', 'no-context', /no context demo/],
    [
      'E1123 20:09:37.679417   29614 memcache.go:265] "Unhandled Error" err="couldn\'t"\nThe connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?',
      'unreachable',
      /does not answer: The connection to the server 127.0.0.1:1 was refused/,
    ],
    [
      'Unable to connect to the server: dial tcp: lookup k8s.example on 10.0.0.1:53: no such host',
      'unreachable',
      /no such host/,
    ],
    ['Unable to connect to the server: net/http: TLS handshake timeout', 'unreachable', /TLS handshake/],
    ['Error from server (ServiceUnavailable): apiserver not ready', 'unreachable', /not ready/],
    ['Error from server: etcdserver: request timed out', 'unreachable', /etcdserver/],
    ['error: You must be logged in to the server (Unauthorized)', 'unauthorized', /logged in/],
    ['bash: exec: kubectl: not found', 'other', /not found/],
    ['', 'other', /it said nothing/],
  ])('a reason: %s', (stderr, reason, fact) => {
    const error = explain(cluster, ['get', 'job', 't', '--output=json'], { stdout: '', stderr, code: 1 })
    expect(error.reason).toBe(reason)
    expect(error.message).toMatch(fact)
    expect(error.message).not.toContain('Unhandled Error')
    expect(error.next).not.toBe('')
  })
})

test('a command to paste names the cluster and is quoted where it must be', () => {
  const odd = new Kubectl("me@prod's", 'ns')
  expect(cluster.command('get', 'pods')).toBe('kubectl --context demo -n ns get pods')
  expect(odd.command('get', 'pods')).toBe("kubectl --context $'me@prod\\'s' -n ns get pods")
})

describe('the log of a pod', () => {
  /** A kubectl whose `logs -f` writes chunks and ends, one list of chunks a call. */
  function logs(...calls: string[][]) {
    const since: (string | undefined)[] = []
    const followLog: Kubectl['followLog'] = async (_pod, _container, from, onChunk) => {
      since.push(from)
      for (const chunk of calls.shift() ?? []) onChunk(Buffer.from(chunk, 'latin1'))
    }
    return { since, followLog }
  }

  test('goes on behind the last line when kubectl ends early, without repeating one', async () => {
    const lines: string[] = []
    const kubectl = logs(['t1 a\nt2 b\nt', '2 c\n'], ['t2 b\nt2 c\nt2 d\nt3 \xc3', '\xa9\n'], ['t3 \xc3\xa9\n'])
    const log = new PodLog(kubectl, 'p', (line) => lines.push(line))
    for (const last of [false, false, true, true]) {
      log.resume(last)
      await new Promise(setImmediate)
    }
    await log.finish(1000)
    log.resume(false)
    expect(lines).toEqual(['a', 'b', 'c', 'd', 'é'])
    expect(kubectl.since, 'once after the end, and never when finished').toEqual([undefined, 't2', 't3'])
  })

  test('is asked for again when nothing came for longer than the mover is ever silent', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    let asked = 0
    const followLog: Kubectl['followLog'] = (_pod, _container, _from, _onChunk, signal) => {
      asked += 1
      return new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('killed'))))
    }
    const log = new PodLog({ followLog }, 'p', () => {})
    try {
      for (const seconds of [0, 20, 20, 0]) {
        vi.advanceTimersByTime(seconds * 1000)
        log.resume(false)
        await new Promise(setImmediate)
      }
      expect(asked).toBe(2)
    } finally {
      vi.useRealTimers()
      await log.finish(0)
    }
  })

  test('is given up after a while', async () => {
    const followLog: Kubectl['followLog'] = (_pod, _container, _from, _onChunk, signal) =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('killed'))))
    const log = new PodLog({ followLog }, 'p', () => {})
    log.resume(false)
    await log.finish(1)
  })
})
