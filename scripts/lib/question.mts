import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { throwIfInterrupted } from './child.mts'

/** Whether somebody is there to be asked. */
export function canAsk(): boolean {
  return process.stdin.isTTY === true && process.stderr.isTTY === true
}

/** Asks on the terminal; only a typed `yes` is one, and an end of input (Ctrl-D) is none. */
export async function askForYes(question: string, signal: AbortSignal): Promise<boolean> {
  process.stderr.write(`${question} Type yes: `)
  // Without `terminal`, readline leaves Ctrl-C to the process, whose signals are looked after elsewhere.
  const lines = createInterface({ input: process.stdin, terminal: false })
  try {
    const closed = once(lines, 'close', { signal }).then(() => [''])
    const [answer] = await Promise.race([once(lines, 'line', { signal }), closed])
    return answer.trim() === 'yes'
  } catch (error) {
    throwIfInterrupted(signal)
    throw error
  } finally {
    lines.close()
  }
}
