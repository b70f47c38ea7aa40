import { $ } from 'zx'
import { Interrupted } from './failure.mts'

export interface ChildResult {
  stdout: string
  stderr: string
  /** null when a signal ended it. */
  code: number | null
}

export interface ChildOptions {
  input?: string
  /** Ends the child, and this call with `Interrupted`. */
  signal?: AbortSignal | undefined
  onStdout?: (chunk: Buffer) => void
}

/**
 * Runs one program and waits for its end, whatever its exit code.
 *
 * `exec` in front makes the program itself our child instead of a shell's: one signal then ends it, with no process tree to search.
 */
export async function runChild(argv: readonly string[], options: ChildOptions = {}): Promise<ChildResult> {
  const { input, signal, onStdout } = options
  throwIfInterrupted(signal)
  const shell = $({
    prefix: 'exec ',
    quiet: true,
    nothrow: true,
    // zx never closes a stdin that it opened without an input.
    ...(input ? { input } : { stdio: ['ignore', 'pipe', 'pipe'] }),
  })
  const running = shell`${argv}`
  if (onStdout) running.stdout.on('data', onStdout)
  const end = () => running.child?.kill('SIGTERM')
  signal?.addEventListener('abort', end, { once: true })
  try {
    const { stdout, stderr, exitCode } = await running
    // Ctrl-C reaches the whole foreground group: our own notice of it may come a moment after the child's death.
    if (exitCode === null && signal) await new Promise((resolve) => setTimeout(resolve, 50))
    throwIfInterrupted(signal)
    return { stdout, stderr, code: exitCode }
  } finally {
    signal?.removeEventListener('abort', end)
  }
}

export function throwIfInterrupted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw signal.reason instanceof Interrupted ? signal.reason : new Interrupted('a signal')
}
