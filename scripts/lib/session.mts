import type { Kubectl } from './kubectl.mts'
import type { Outcome, Problem } from './outcome.mts'
import type { Settings } from './settings.mts'
import type { Story } from './story.mts'

/** What a run has to say on stdout, and what stands against it where it is no good news. */
export interface Result {
  text: string
  problem?: Problem
}

/** What every step of a run works with. */
export interface Session {
  settings: Settings
  cluster: Kubectl
  story: Story
  outcome: Outcome
  /** The kubeconfig's path where it is not kubectl's own choice. */
  kubeconfig: string | undefined
  /** The command that goes on where this run is, to paste. */
  again: string
  /** The target of make that this run is; undefined: the script was called by its file. */
  target: string | undefined
  /** Aborted by Ctrl-C and its like. */
  signal: AbortSignal
}
