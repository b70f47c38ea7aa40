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
    ['error: error loading config file "/k/c": yaml: line 1: x', 'kubeconfig', /cannot be read: .*"\/k\/c": yaml/],
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
    [
      'Unable to connect to the server: getting credentials: exec: executable doctl not found\n\nIt looks like you are trying to use a client-go credential plugin that is not installed.',
      'tools',
      /^doctl is not installed, by which the kubeconfig logs in to the cluster of context demo$/,
    ],
    ['Error from server (ServiceUnavailable): apiserver not ready', 'unreachable', /not ready/],
    ['Error from server: etcdserver: request timed out', 'unreachable', /etcdserver/],
    [
      'Error from server (InternalError): error when creating "STDIN": Internal error occurred: failed calling webhook "validate.kyverno.svc-fail": failed to call webhook: Post "https://kyverno-svc.kyverno.svc:443/validate": dial tcp 10.1.2.3:443: connect: connection refused',
      'webhook',
      /webhook of the cluster of context demo does not answer: .*kyverno/,
    ],
    [
      'Error from server (Forbidden): error when creating "STDIN": admission webhook "policy.example" denied the request: no',
      'forbidden',
      /denied the request/,
    ],
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

const ENDED = { code: 0, stdout: '', stderr: '' }
const at = (second: number, words: string) => `2026-01-01T00:00:0${second}Z ${words}`

describe('the log of a pod', () => {
  /** A kubectl whose `logs -f` writes chunks and ends, one list of chunks a call. */
  function logs(...calls: (string[] | Error)[]) {
    const since: (string | undefined)[] = []
    const followLog: Kubectl['followLog'] = async (_pod, _container, from, onChunk) => {
      since.push(from)
      const call = calls.shift() ?? []
      if (call instanceof Error) return { ...ENDED, code: 1, stderr: `${call.message}\n` }
      for (const chunk of call) onChunk(Buffer.from(chunk, 'latin1'))
      return ENDED
    }
    return { since, followLog }
  }

  /** One that writes nothing until it is killed. */
  const deaf: Kubectl['followLog'] = (_pod, _container, _from, _onChunk, signal) =>
    new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(new Error('killed')))
    })

  async function resume(log: PodLog, ...asks: boolean[]): Promise<void> {
    for (const last of asks) {
      log.resume(last)
      await new Promise(setImmediate)
    }
  }

  test('goes on behind the last line when kubectl ends early, without repeating one', async () => {
    const lines: string[] = []
    const kubectl = logs(
      [`${at(1, 'a')}\n${at(2, 'b')}\n2026`, `${at(2, 'c').slice(4)}\n`],
      [`${at(2, 'b')}\n${at(2, 'c')}\n${at(2, 'd')}\n${at(3, '\xc3')}`, '\xa9\n'],
      [`${at(3, '\xc3\xa9')}\n`],
    )
    const log = new PodLog(kubectl, 'p', (line) => lines.push(line))
    await resume(log, false, false, true, true)
    await log.drain(1000)
    log.resume(false)
    expect(lines).toEqual(['a', 'b', 'c', 'd', 'é'])
    const [second, third] = [2, 3].map((number) => at(number, '').trim())
    expect(kubectl.since, 'once after the end, and never when finished').toEqual([undefined, second, third])
  })

  test("goes on behind a line of the kubelet's own, which has no time", async () => {
    const lines: string[] = []
    const words = 'unable to retrieve container logs for containerd://1'
    const kubectl = logs([`${at(1, 'a')}\n${words}\n`], [`${at(1, 'a')}\n${at(2, 'b')}\n`])
    const log = new PodLog(kubectl, 'p', (line) => lines.push(line))
    await resume(log, false, false)
    await log.end()
    expect(lines).toEqual(['a', words, 'b'])
    expect(kubectl.since).toEqual([undefined, at(1, '').trim()])
  })

  test('says why it cannot be read, until it can', async () => {
    const log = new PodLog(logs(new Error('dial tcp 10.0.0.1:10250: i/o timeout'), [`${at(1, 'a')}\n`]), 'p', () => {})
    await resume(log, false)
    expect(log.trouble).toBe('dial tcp 10.0.0.1:10250: i/o timeout')
    await resume(log, false)
    expect(log.trouble).toBeUndefined()
    await log.end()
  })

  test('of a pod that has ended is asked for until it was had to its end', async () => {
    const lines: string[] = []
    const kubectl = logs(new Error('unexpected EOF'), [`${at(1, 'a')}\n`])
    const log = new PodLog(kubectl, 'p', (line) => lines.push(line))
    await log.drain(60_000)
    expect(lines).toEqual(['a'])
    expect(kubectl.since).toHaveLength(2)
  })

  test('is asked for again when nothing came for longer than the mover is ever silent', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    let asked = 0
    const followLog: Kubectl['followLog'] = (...args) => {
      asked += 1
      return deaf(...args)
    }
    const log = new PodLog({ followLog }, 'p', () => {})
    try {
      for (const seconds of [0, 20, 20, 0]) {
        vi.advanceTimersByTime(seconds * 1000)
        await resume(log, false)
      }
      expect(asked).toBe(2)
    } finally {
      vi.useRealTimers()
      await log.end()
    }
  })

  test('is given up after a while', async () => {
    const log = new PodLog({ followLog: deaf }, 'p', () => {})
    log.resume(false)
    await log.drain(1)
  })
})
