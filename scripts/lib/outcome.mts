import { exitCodes, Failure, Interrupted } from './failure.mts'
import type { MoverDone } from './report.mts'

/** One stage in the document of --json. */
export interface StageOutcome {
  stage: string
  state: State
  /** What the mover proved; absent for stages without bytes, and when its pod is gone. */
  commit?: string
  files?: number
  /** Bytes of the whole model, and of those that were moved now. */
  bytes?: number
  moved?: number
  seconds: number
  /** Of verify: each checkpoint's line. */
  checkpoints?: readonly { title: string; holds: boolean; sentence: string; next: string }[]
}

export type State = 'done' | 'failed' | 'timeout' | 'interrupted' | 'usage'

/** What a run did, stage by stage, for machines. */
export class Outcome {
  readonly stages: StageOutcome[] = []
  /** What a script has to say besides, such as a plan's numbers. */
  readonly facts: Record<string, unknown> = {}

  /** Runs one stage; how it ended is noted whatever happens. */
  async record<T>(stage: string, run: (noted: StageOutcome) => Promise<T>): Promise<T> {
    const start = performance.now()
    const noted: StageOutcome = { stage, state: 'done', seconds: 0 }
    this.stages.push(noted)
    try {
      return await run(noted)
    } catch (error) {
      noted.state = stateOf(error)
      throw error
    } finally {
      noted.seconds = Number(((performance.now() - start) / 1000).toFixed(1))
    }
  }

  /** The document: the same keys however the run ended, null where there is nothing to say. */
  document(script: string, model: string | undefined, error: unknown, good: boolean): Record<string, unknown> {
    const moved = this.stages.findLast(({ commit }) => commit !== undefined)
    const state = error === undefined ? (good ? 'done' : 'failed') : stateOf(error)
    return {
      script,
      model: model ?? null,
      state,
      stage: this.stages.at(-1)?.stage ?? null,
      commit: moved?.commit ?? null,
      bytes: moved?.bytes ?? null,
      seconds: Number(this.stages.reduce((sum, { seconds }) => sum + seconds, 0).toFixed(1)),
      ...wordsOf(error, this.stages.at(-1)),
      stages: this.stages,
      ...this.facts,
    }
  }
}

/** Notes what the mover reported. */
export function noteMover(noted: StageOutcome, done: MoverDone | undefined): void {
  if (!done) return
  Object.assign(noted, { commit: done.commit, files: done.files, bytes: done.bytes, moved: done.moved })
}

function stateOf(error: unknown): State {
  if (error instanceof Interrupted) return 'interrupted'
  if (!(error instanceof Failure)) return 'failed'
  if (error.exitCode === exitCodes.timeout) return 'timeout'
  return error.exitCode === exitCodes.usage ? 'usage' : 'failed'
}

function wordsOf(error: unknown, last: StageOutcome | undefined): Record<string, string | null> {
  if (error instanceof Failure) return { cause: error.reason, detail: error.message, next: error.next }
  if (error instanceof Interrupted) return { cause: 'interrupted', detail: error.message, next: null }
  if (error !== undefined) return { cause: 'defect', detail: String(error), next: null }
  const open = last?.checkpoints?.find(({ holds }) => !holds)
  if (open) return { cause: `checkpoint-${open.title}`, detail: open.sentence, next: open.next }
  return { cause: null, detail: null, next: null }
}
