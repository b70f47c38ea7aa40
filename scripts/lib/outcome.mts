import { exitCodes, Failure, Interrupted } from './failure.mts'
import type { MoverDone } from './report.mts'

/** One stage in the document of --json. */
export interface StageOutcome {
  stage: string
  state: State
  /** What the mover proved; absent for stages without bytes, and when its pod is gone. */
  commit?: string
  files?: number
  /** Bytes of the whole model, and of those that were moved now, and the files of which any were. */
  bytes?: number
  moved?: number
  filesMoved?: number
  seconds: number
  /** Of verify: each checkpoint's line. */
  checkpoints?: readonly { title: string; holds: boolean; sentence: string; next: string | null; unknown?: string }[]
}

/** Why a run that came to its end is no good news. */
export interface Problem {
  /** A stable name, for machines. */
  cause: string
  /** One sentence that names the object. */
  detail: string
  next: string
}

/** `dry-run`: it came to its end, and nothing was done. */
export type State = 'done' | 'dry-run' | 'failed' | 'timeout' | 'interrupted' | 'usage'

/** What a run did, stage by stage, for machines. */
export class Outcome {
  readonly stages: StageOutcome[] = []
  /** What a script has to say besides, such as a plan's numbers. */
  readonly facts: Record<string, unknown> = {}
  /** What an end that is no failure is called. */
  good: Extract<State, 'done' | 'dry-run'> = 'done'

  /** Runs one stage, after another and never within one; how it ended is noted whatever happens. */
  async record<T>(stage: string, run: (noted: StageOutcome) => Promise<T>): Promise<T> {
    const start = performance.now()
    const noted: StageOutcome = { stage, state: this.good, seconds: 0 }
    this.stages.push(noted)
    try {
      const result = await run(noted)
      if (isBadNews(result)) noted.state = 'failed'
      return result
    } catch (error) {
      noted.state = stateOf(error)
      throw error
    } finally {
      noted.seconds = Number(((performance.now() - start) / 1000).toFixed(1))
    }
  }

  /**
   * The document: the same keys however the run ended, null where there is nothing to say.
   *
   * `end`: what was thrown, or the `Problem` of a run that came to its end; undefined when all is well.
   */
  document(script: string, model: string | undefined, end: unknown): Record<string, unknown> {
    const proved = this.stages.findLast(({ commit }) => commit !== undefined)
    return {
      script,
      model: model ?? null,
      state: end === undefined ? this.good : stateOf(end),
      stage: this.stages.at(-1)?.stage ?? null,
      commit: proved?.commit ?? null,
      bytes: proved?.bytes ?? null,
      seconds: Number(this.stages.reduce((sum, { seconds }) => sum + seconds, 0).toFixed(1)),
      ...wordsOf(end),
      stages: this.stages,
      ...this.facts,
    }
  }
}

/** Notes what the mover reported. */
export function noteMover(noted: StageOutcome, done: MoverDone | undefined): void {
  if (!done) return
  Object.assign(noted, {
    commit: done.commit,
    files: done.files,
    bytes: done.bytes,
    moved: done.moved,
    filesMoved: done.filesMoved,
  })
}

function stateOf(error: unknown): State {
  if (error instanceof Interrupted) return 'interrupted'
  if (!(error instanceof Failure)) return 'failed'
  if (error.exitCode === exitCodes.timeout) return 'timeout'
  return error.exitCode === exitCodes.usage ? 'usage' : 'failed'
}

function wordsOf(end: unknown): Record<string, string | null> {
  if (end === undefined) return { cause: null, detail: null, next: null }
  if (end instanceof Failure) return { cause: end.reason, detail: end.message, next: inOneLine(end.next) }
  if (end instanceof Interrupted) return { cause: 'interrupted', detail: end.message, next: inOneLine(end.next) }
  if (isProblem(end)) return { cause: end.cause, detail: end.detail, next: end.next }
  return { cause: 'defect', detail: String(end), next: null }
}

/** People get a line for each thing that can be done next. */
function inOneLine(next: string | undefined): string | null {
  return next?.replaceAll('\n', '; ') ?? null
}

function isBadNews(result: unknown): boolean {
  return typeof result === 'object' && result !== null && 'problem' in result
}

function isProblem(end: unknown): end is Problem {
  return typeof end === 'object' && end !== null && !(end instanceof Error) && 'cause' in end
}
