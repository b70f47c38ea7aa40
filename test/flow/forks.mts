import { spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import type { Message, MoverOptions, Rig, Verb } from './mover.mts'

const PYTHON = path.resolve('.venv/bin/python')
const MOVER = path.resolve('k8s/mover')
const SERVER = path.join(import.meta.dirname, 'forkserver.py')

/** How a forked mover ended: its exit code, or minus the signal. */
export interface ForkEnd {
  status: number
  log: string
  message: Message | undefined
}

/** A mover that runs. */
export interface Fork {
  end: Promise<ForkEnd>
  /** Waits until this is in its log; fails when it ends without. */
  says(words: string): Promise<void>
  /** Sends a signal, and resolves when the process is gone. */
  kill(signal?: NodeJS.Signals): Promise<ForkEnd>
}

/** Movers between the Hub, the bucket and the volume of a rig, started at the price of a fork instead of a Python. */
export class Forks {
  readonly #rig: Rig
  readonly #server = spawn(PYTHON, [SERVER], {
    env: { ...process.env, PYTHONPATH: MOVER },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  readonly #answers = new Map<number, EventEmitter>()
  #count = 0

  constructor(rig: Rig) {
    this.#rig = rig
    createInterface(this.#server.stdout).on('line', (line) => {
      const { id, ...answer } = JSON.parse(line) as { id: number }
      for (const [name, value] of Object.entries(answer)) this.#answers.get(id)?.emit(name, value)
    })
  }

  /** Starts a mover in the pod's environment. */
  async start(verb: Verb, { env, patch = '' }: MoverOptions = {}): Promise<Fork> {
    this.#count += 1
    const id = this.#count
    const log = path.join(this.#rig.dir, `fork-${id}.log`)
    const message = path.join(this.#rig.dir, `fork-${id}.json`)
    const all = { PATH: process.env.PATH, ...this.#rig.env, ...env, TERMINATION_LOG: message }
    const order = {
      id,
      verb,
      env: Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)),
      patch,
      log,
    }
    const answers = new EventEmitter()
    this.#answers.set(id, answers)
    const ended = once(answers, 'status')
    await writeFile(log, '')
    this.#server.stdin.write(`${JSON.stringify(order)}\n`)
    const [pid] = (await once(answers, 'pid')) as [number]
    const end = ended.then(async ([status]): Promise<ForkEnd> => {
      this.#answers.delete(id)
      const text = await readFile(log, 'utf8')
      const written = await readFile(message, 'utf8').catch((error) => {
        if (error.code === 'ENOENT') return undefined
        throw error
      })
      return { status, log: text, message: written === undefined ? undefined : (JSON.parse(written) as Message) }
    })
    return {
      end,
      says: async (words) => {
        let ended = false
        const over = () => {
          ended = true
        }
        end.then(over, over)
        for (;;) {
          const last = ended
          const text = await readFile(log, 'utf8')
          if (text.includes(words)) return
          if (last) throw new Error(`ended without saying ${words}:\n${text}`)
          await sleep(20)
        }
      },
      kill: (signal = 'SIGKILL') => {
        try {
          if (this.#answers.has(id)) process.kill(pid, signal)
        } catch (error) {
          // It ended just now, and its status is on the way.
          if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
        }
        return end
      },
    }
  }

  /** The same, up to its end. */
  async run(verb: Verb, options: MoverOptions = {}): Promise<ForkEnd> {
    return (await this.start(verb, options)).end
  }

  /** The same, and it must succeed. */
  async mustRun(verb: Verb, options: MoverOptions = {}): Promise<ForkEnd> {
    const end = await this.run(verb, options)
    expect(end, end.log).toMatchObject({ status: 0, message: { state: 'done' } })
    return end
  }

  async close(): Promise<void> {
    this.#server.stdin.end()
    if (this.#server.exitCode === null) await once(this.#server, 'exit')
  }
}
