import { type ChildProcess, spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

export interface Ended {
  /** 128 + the signal's number for a process that a signal ended, as a container runtime reports it. */
  exitCode: number
}

/**
 * Starts a process in a group of its own that cannot outlive this one. Beside it in the group runs a shell that waits for
 * the end of a pipe from us: when we die, however that happens, it kills the group.
 */
const guard = '( { cat; kill -KILL 0; } <&3 >/dev/null 2>&1 & ) ; exec 3<&- ; exec "$@"'

const signals: Record<string, number> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGPIPE: 13,
  SIGTERM: 15,
}

export class ContainerProcess {
  readonly ended: Promise<Ended>
  readonly #child: ChildProcess
  #alive = true

  constructor(
    argv: readonly string[],
    options: { cwd: string; env: Record<string, string>; output: (stream: 'stdout' | 'stderr', chunk: Buffer) => void },
  ) {
    const { cwd, env, output } = options
    this.#child = spawn('/bin/sh', ['-c', guard, 'container', ...argv], {
      cwd,
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    })
    this.#child.stdout?.on('data', (chunk: Buffer) => output('stdout', chunk))
    this.#child.stderr?.on('data', (chunk: Buffer) => output('stderr', chunk))
    // The pipe's other end vanishes with the group; that is its purpose and no fault.
    this.#child.stdio[3]?.on('error', () => undefined)
    this.ended = new Promise((resolve, reject) => {
      this.#child.once('error', reject)
      // What the process left running goes with it, as in a container when its first process ends.
      this.#child.once('exit', () => {
        this.#alive = false
        this.#signalGroup()
      })
      this.#child.once('close', (code, signal) => resolve({ exitCode: code ?? 128 + (signals[signal ?? ''] ?? 0) }))
    })
  }

  /** Signals the process alone, as the kubelet does; its children are its own business. */
  signal(name: 'SIGTERM' | 'SIGKILL'): void {
    if (this.#alive) this.#child.kill(name)
  }

  #signalGroup(): void {
    if (this.#child.pid === undefined) return
    try {
      process.kill(-this.#child.pid, 'SIGKILL')
    } catch (error) {
      // ESRCH: nothing is left of the group.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
}

/** Whether the command could be started; the container runtime looks it up the same way. */
export function isExecutable(command: string, path: string): boolean {
  const candidates = command.includes('/') ? [command] : path.split(delimiter).map((folder) => join(folder, command))
  return candidates.some((candidate) => {
    try {
      accessSync(candidate, constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}
