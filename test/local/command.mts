import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readdir, readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'

/** How a command ended. `code` is null where a signal ended it. */
export interface Outcome {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
  seconds: number
}

export interface CommandOptions {
  /** The whole environment: nothing of this process's own is added. */
  env: Record<string, string>
  cwd?: string
  input?: string
}

/** A command that was started: what it has said so far, the lines it will say, and its end. */
export class Running {
  stdout = ''
  stderr = ''
  readonly outcome: Promise<Outcome>
  readonly #child: ChildProcess
  readonly #mark = randomUUID()
  readonly #waiting = new Set<() => void>()
  #ended = false

  constructor(command: string, args: readonly string[], { env, cwd, input }: CommandOptions) {
    const began = performance.now()
    // The mark passes on to whatever the command starts, so that children that outlive it can be found.
    this.#child = spawn(command, args, {
      env: { ...env, COMMAND_MARK: this.#mark },
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      ...(cwd ? { cwd } : {}),
    })
    this.#child.stdin?.end(input)
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
      this.#look()
    })
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
      this.#look()
    })
    this.outcome = once(this.#child, 'close').then(([code, signal]) => {
      this.#ended = true
      this.#look()
      return {
        code: code as number | null,
        signal: signal as NodeJS.Signals | null,
        stdout: this.stdout,
        stderr: this.stderr,
        seconds: (performance.now() - began) / 1000,
      }
    })
  }

  #look(): void {
    for (const look of this.#waiting) look()
  }

  /** Waits until the pattern is in what the command has said; fails when the command ends without it. */
  says(pattern: RegExp, stream: 'stdout' | 'stderr' = 'stderr'): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const match = pattern.exec(this[stream])
        if (!match && !this.#ended) return
        this.#waiting.delete(look)
        if (match) resolve(match)
        else reject(new Error(`ended without saying ${pattern} on ${stream}:\n${this.stdout}${this.stderr}`))
      }
      this.#waiting.add(look)
      look()
    })
  }

  /** Sends a signal to the command itself, not to its children. */
  signal(name: NodeJS.Signals): void {
    this.#child.kill(name)
  }

  /** Command lines of the processes it started that are still there (Linux only, as it reads /proc), after at most `grace` ms. */
  async survivors(grace = 5000): Promise<string[]> {
    const until = Date.now() + grace
    for (;;) {
      const found = await marked(`COMMAND_MARK=${this.#mark}`)
      if (found.length === 0 || Date.now() > until) return found
      await sleep(50)
    }
  }
}

async function marked(mark: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const found = await Promise.all(
    pids.map(async (pid) => {
      const environment = await processFile(pid, 'environ')
      return environment.split('\0').includes(mark) ? (await processFile(pid, 'cmdline')).replaceAll('\0', ' ') : ''
    }),
  )
  return found.filter(Boolean)
}

/** Empty for a process that ended meanwhile, or that belongs to somebody else. */
async function processFile(pid: string, name: string): Promise<string> {
  try {
    return await readFile(`/proc/${pid}/${name}`, 'utf8')
  } catch (error) {
    if (['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) return ''
    throw error
  }
}
