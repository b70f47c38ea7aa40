import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, realpath, rm, symlink } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { real } from './cluster.mts'
import { version } from './kube/discovery.mts'

/**
 * What vitest does before the flow tests: it puts a kubectl in front of PATH that is one program.
 *
 * Google's SDK installs a dispatcher, which asks the server for its version and then starts the kubectl of that version:
 * two programs and one more request for each of the thousands of calls, a quarter of the suite's time. The tests call
 * the one that it would choose. Any other kubectl is used as it is.
 */
export default async function setUp(): Promise<(() => Promise<void>) | undefined> {
  const chosen = await behindDispatcher()
  if (!chosen) return undefined
  const folder = await mkdtemp(path.join(os.tmpdir(), 'kubectl-'))
  await symlink(chosen, path.join(folder, 'kubectl'))
  const before = process.env.PATH
  process.env.PATH = `${folder}${path.delimiter}${before}`
  return async () => {
    process.env.PATH = before
    await rm(folder, { recursive: true })
  }
}

/** The program that a dispatcher on PATH starts; undefined where kubectl is none. */
async function behindDispatcher(): Promise<string | undefined> {
  const [found] = (process.env.PATH ?? '')
    .split(path.delimiter)
    .map((folder) => path.join(folder, 'kubectl'))
    .filter((file) => existsSync(file))
  if (!found) return undefined
  const args = ['version', '--output=json', ...(real ? [] : ['--client'])]
  const said = JSON.parse(execFileSync(found, args, { encoding: 'utf8' })) as Versions
  if (!said.clientVersion.gitVersion.endsWith('-dispatcher')) return undefined
  const { major, minor } = said.serverVersion ?? version
  const file = path.join(path.dirname(await realpath(found)), `kubectl.${major}.${Number.parseInt(minor, 10)}`)
  return existsSync(file) ? file : undefined
}

interface Versions {
  clientVersion: { gitVersion: string }
  serverVersion?: { major: string; minor: string }
}
