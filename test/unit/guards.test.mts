import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Kubectl } from '../../scripts/lib/kubectl.mts'
import type { Metadata } from '../../scripts/lib/objects.mts'
import { type OptionName, options } from '../../scripts/lib/options.mts'
import { Outcome } from '../../scripts/lib/outcome.mts'
import { readSettings } from '../../scripts/lib/settings.mts'
import { bindStorage } from '../../scripts/lib/storage.mts'
import { Story } from '../../scripts/lib/story.mts'

// What keeps a change from hitting an object that has changed since it was looked at: only what is sent can show it.

vi.setConfig({ testTimeout: 60_000 })

/** What a kubectl says, by the command that it was given (`get pv`); each is used once, the last one stays. */
type Answers = Record<string, { stdout?: object | string; stderr?: string }[]>

/** Takes its answers from the folder that it is in, and notes each call there. */
const STUB = `#!/usr/bin/env node
const fs = require('node:fs')
const [dir, args] = [__dirname, process.argv.slice(2).filter((arg) => !/^--(context|namespace|request-timeout)=/.test(arg))]
const verb = args.filter((arg) => !arg.startsWith('-')).slice(0, 2).join(' ')
const input = args.includes('--filename=-') ? fs.readFileSync(0, 'utf8') : ''
fs.appendFileSync(dir + '/calls', JSON.stringify({ verb, args, input: input && JSON.parse(input) }) + '\\n')
const answers = JSON.parse(fs.readFileSync(dir + '/answers', 'utf8'))[verb]
if (!answers) throw new Error('an unknown call: ' + args.join(' '))
const asked = fs.readFileSync(dir + '/calls', 'utf8').split('\\n').filter((line) => line && JSON.parse(line).verb === verb).length
const { stdout = '', stderr } = answers[Math.min(asked, answers.length) - 1]
process.stdout.write(typeof stdout === 'string' ? stdout : JSON.stringify(stdout))
if (stderr) console.error(stderr)
process.exitCode = stderr ? 1 : 0
`

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(path.join(os.tmpdir(), 'kubectl-'))
  await writeFile(path.join(dir, 'kubectl'), STUB)
  await chmod(path.join(dir, 'kubectl'), 0o755)
  vi.stubEnv('PATH', `${dir}:${process.env.PATH}`)
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await rm(dir, { recursive: true })
})

const answer = (answers: Answers) => writeFile(path.join(dir, 'answers'), JSON.stringify(answers))

async function calls(verb: string): Promise<{ args: string[]; input: object }[]> {
  const lines = (await readFile(path.join(dir, 'calls'), 'utf8')).trim().split('\n')
  return lines.map((line) => JSON.parse(line)).filter((call) => call.verb === verb)
}

function metadata(name: string, uid: string, resourceVersion: string): Metadata {
  return { name, uid, resourceVersion, creationTimestamp: '2026-01-01T00:00:00Z' }
}

describe('a deletion', () => {
  const cluster = new Kubectl('demo', 'ns')
  const job = metadata('j', 'uid-j', '7')
  const options = { kind: 'DeleteOptions', apiVersion: 'v1', preconditions: { uid: 'uid-j' } }
  const refused = (reason: string) => ({ delete: [{ stderr: `Error from server (${reason}): jobs.batch "j"` }] })

  test('is of the very object that was looked at, and foreground where its pods have to end first', async () => {
    await answer({ delete: [{ stdout: { kind: 'Status' } }] })
    expect(await cluster.deleteJob(job, 'Foreground')).toBe(true)
    expect(await cluster.deleteObject('configmaps', job)).toBe(true)
    const [first, second] = await calls('delete')
    expect(first?.args).toContain('--raw=/apis/batch/v1/namespaces/ns/jobs/j')
    expect(first?.input).toEqual({ ...options, propagationPolicy: 'Foreground' })
    expect(second?.args).toContain('--raw=/api/v1/namespaces/ns/configmaps/j')
    expect(second?.input).toEqual({ ...options, propagationPolicy: 'Background' })
  })

  test.each(['Conflict', 'NotFound'])('that meets another object is none: %s', async (reason) => {
    await answer(refused(reason))
    expect(await cluster.deleteJob(job, 'Foreground')).toBe(false)
  })

  test('that may not be is an error', async () => {
    await answer(refused('Forbidden'))
    await expect(cluster.deleteJob(job, 'Foreground')).rejects.toMatchObject({ reason: 'forbidden' })
  })
})

test('events that may not be listed are none; another failure is one', async () => {
  const cluster = new Kubectl('demo', 'ns')
  await answer({
    'get events': [
      { stderr: 'Error from server (Forbidden): events is forbidden' },
      { stderr: 'Unable to connect to the server: EOF' },
    ],
  })
  expect(await cluster.eventsIfPermitted('uid')).toEqual([])
  await expect(cluster.eventsIfPermitted('uid')).rejects.toMatchObject({ reason: 'unreachable' })
})

describe('a stale claimRef', () => {
  function volume(phase: string, resourceVersion: string, uid?: string) {
    const claimRef = uid ? { claimRef: { namespace: 'ns', name: 'c', uid } } : {}
    const spec = { storageClassName: 'nfs-static', accessModes: ['ReadWriteMany'], capacity: { storage: '1Gi' } }
    return {
      stdout: { metadata: metadata('v', 'uid-v', resourceVersion), spec: { ...spec, ...claimRef }, status: { phase } },
    }
  }
  const claim = {
    metadata: metadata('c', 'uid-c', '1'),
    spec: { volumeName: 'v', storageClassName: 'nfs-static' },
    status: { phase: 'Bound' },
  }
  const patchOf = (resourceVersion: string) => [
    { op: 'test', path: '/metadata/resourceVersion', value: resourceVersion },
    { op: 'remove', path: '/spec/claimRef' },
  ]

  function bind(): Promise<string> {
    const args = ['--pv', 'v', '--pvc', 'c', '--namespace', 'ns', '--context', 'demo']
    const settings = readSettings('test', Object.keys(options) as OptionName[], args, {})
    const cluster = new Kubectl('demo', 'ns')
    const story = new Story(() => {})
    return bindStorage({
      settings,
      cluster,
      story,
      outcome: new Outcome(),
      kubeconfig: undefined,
      again: '',
      target: undefined,
      signal: new AbortController().signal,
    })
  }

  async function patches(): Promise<unknown[]> {
    return (await calls('patch pv')).map(({ args }) => {
      expect(args).toContain('--type=json')
      return JSON.parse(args.find((arg) => arg.startsWith('--patch='))?.slice('--patch='.length) ?? '')
    })
  }

  // What a server says to a `test` that fails has had both names.
  test.each([
    'The request is invalid: the server rejected our request due to an error in our request',
    'Error from server (Conflict): Operation cannot be fulfilled on persistentvolumes "v"',
  ])('is removed only from the volume that was looked at; one that changed is looked at again: %s', async (stderr) => {
    await answer({
      'get pv': [
        volume('Released', '7', 'uid-old'),
        // Behind the refusal, and at the next look.
        volume('Released', '8', 'uid-old'),
        volume('Released', '8', 'uid-old'),
        volume('Available', '9'),
        volume('Bound', '10', 'uid-c'),
      ],
      'get pvc': [{}, {}, {}, { stdout: claim }],
      'patch pv': [{ stderr }, { stdout: {} }],
      create: [{ stdout: claim }],
    })
    expect(await bind()).toMatch(/c is Bound to v \(v was Released: its stale claimRef is removed; PVC created\)/)
    expect(await patches()).toEqual([patchOf('7'), patchOf('8')])
  })

  test('stays where the volume has become somebody else’s in between', async () => {
    const theirs = volume('Bound', '8', 'uid-x')
    Object.assign(theirs.stdout.spec, { claimRef: { namespace: 'theirs', name: 'x', uid: 'uid-x' } })
    await answer({
      'get pv': [volume('Released', '7', 'uid-old'), theirs],
      'get pvc': [{}],
      'patch pv': [
        { stderr: 'The request is invalid: the server rejected our request due to an error in our request' },
      ],
    })
    await expect(bind()).rejects.toThrow('PV v is claimed by theirs/x, not by ns/c')
    expect(await patches()).toEqual([patchOf('7')])
  })
})
