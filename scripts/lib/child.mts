import type { ChildProcess } from 'node:child_process'
import { $ } from 'zx'
import { Failure, Interrupted } from './failure.mts'

export interface ChildResult {
  stdout: string
  stderr: string
  /** null when a signal ended it. */
  code: number | null
  /** It was ended because its time was over. */
  late?: boolean
}

export interface ChildOptions {
  input?: string
  /** Ends the child, and this call with `Interrupted`. */
  signal?: AbortSignal | undefined
  /** How long it may take. Default: as long as it likes. */
  seconds?: number
  onStdout?: (chunk: Buffer) => void
}

const running = new Set<ChildProcess>()
process.on('exit', () => running.forEach(endGroup))

/**
 * Runs one program and waits for its end, whatever its exit code.
 *
 * Each is the head of a process group of its own: Ctrl-C at a terminal reaches us alone, and one kill ends the program
 * with all that it has started (kubectl's login helpers hold its pipes, and would be waited for). `exec` in front makes
 * it our own child instead of a shell's.
 */
export async function runChild(argv: readonly string[], options: ChildOptions = {}): Promise<ChildResult> {
  const { input, signal, seconds, onStdout } = options
  throwIfInterrupted(signal)
  const shell = $({
    prefix: 'exec ',
    quiet: true,
    nothrow: true,
    detached: true,
    // zx never closes a stdin that it opened without an input.
    ...(input ? { input } : { stdio: ['ignore', 'pipe', 'pipe'] }),
  })
  const started = shell`${argv}`
  const { child } = started
  if (!child) throw new Error(`${argv[0]} was not started`)
  if (onStdout) started.stdout.on('data', onStdout)
  let unread = false
  child.stdin?.on('error', () => {
    unread = true
  })
  let late = false
  const end = () => endGroup(child)
  const outOfTime = () => {
    late = true
    end()
  }
  const timer = seconds === undefined ? undefined : setTimeout(outOfTime, seconds * 1000)
  signal?.addEventListener('abort', end, { once: true })
  running.add(child)
  try {
    const { stdout, stderr, exitCode: code } = await started
    throwIfInterrupted(signal)
    // A program that fails says why itself.
    if (unread && code === 0)
      throw new Failure(
        'tools',
        `${argv.find((word) => word !== 'env' && !word.includes('='))} ended well and had not read its input to the end`,
        'check which program that is',
      )
    return { stdout, stderr, code, late }
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', end)
    running.delete(child)
  }
}

/** SIGKILL: none of them has anything to tidy up, and a helper may be deaf to the rest. */
function endGroup(child: ChildProcess): void {
  // What has left the group may hold the pipes for as long as it likes.
  child.stdout?.destroy()
  child.stderr?.destroy()
  try {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
  } catch (error) {
    // macOS says EPERM of a group that is dead and not yet waited for.
    if (!['ESRCH', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
  }
}

/** Throws `Interrupted` once the signal is aborted. */
export function throwIfInterrupted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw signal.reason instanceof Interrupted ? signal.reason : new Interrupted('a signal')
}
