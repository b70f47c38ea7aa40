import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { describe, expect, test } from 'vitest'
import { python } from '../local/cluster.mts'
import { dir, job, useKube } from './standin.mts'

useKube()

describe('the pods of a stand-in', () => {
  // A stand-in in a process of its own, with a pod whose first process has a child; all of them write their ids to a file.
  async function startApart(): Promise<{ child: ReturnType<typeof spawn>; pids: number[] }> {
    const folder = await mkdtemp(path.join(dir, 'apart-'))
    const pids = path.join(folder, 'pids')
    const lines = [
      'import os, subprocess, sys, time',
      `child = subprocess.Popen(["sleep", "600"])`,
      `open(${JSON.stringify(`${pids}.part`)}, "w").write(f"{os.getpid()} {child.pid}")`,
      `os.rename(${JSON.stringify(`${pids}.part`)}, ${JSON.stringify(pids)})`,
      'print("up", flush=True)',
      'time.sleep(600)',
    ]
    const program = path.join(folder, 'apart.mts')
    const source = path.resolve(import.meta.dirname, '../local/kube.mts')
    await writeFile(
      program,
      `import { startKube } from ${JSON.stringify(source)}
       const kube = await startKube({ dir: ${JSON.stringify(folder)}, python: ${JSON.stringify(python)}, namespaces: ['team'] })
       process.on('SIGTERM', () => kube.close().then(() => process.exit(0)))
       process.stdout.write(kube.kubeconfig + '\\n')`,
    )
    const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [config] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
    const kubectlThere = (args: string[], input?: string) =>
      execFileSync('kubectl', ['--kubeconfig', config, '-n', 'team', ...args], { input, encoding: 'utf8' })
    kubectlThere(['apply', '-f', '-'], JSON.stringify(job('held', lines.join('\n'))))
    kubectlThere(['wait', '--for=condition=Ready', 'pod', '-l', 'job-name=held', '--timeout=20s'])
    const follow = spawn('kubectl', ['--kubeconfig', config, '-n', 'team', 'logs', '-f', 'job/held'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    await once(createInterface({ input: follow.stdout }), 'line')
    follow.kill()
    return { child, pids: (await readFile(pids, 'utf8')).split(' ').map(Number) }
  }

  const alive = (pid: number) => {
    try {
      process.kill(pid, 0)
      return true
    } catch {
      return false
    }
  }

  // A process that was killed is there until init has reaped it.
  const gone = (pids: number[]) => expect.poll(() => pids.map(alive), { timeout: 10_000 }).toEqual([false, false])

  test('end with it when it closes', async () => {
    const { child, pids } = await startApart()
    expect(pids.map(alive)).toEqual([true, true])
    child.kill('SIGTERM')
    expect(await once(child, 'exit')).toEqual([0, null])
    await gone(pids)
  })

  test('end with it when it is killed', async () => {
    const { child, pids } = await startApart()
    child.kill('SIGKILL')
    await once(child, 'exit')
    await gone(pids)
  })
})
