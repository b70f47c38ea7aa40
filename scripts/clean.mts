#!/bin/sh
':' //; exec "$(dirname "$(readlink -f "$0")")/run" "$0" "$@"
// Removes what a model left: its finished Jobs, and with --spaces and --nfs its copies.
// Example: scripts/clean.mts --model meta-llama/Llama-3.1-8B-Instruct --spaces --nfs
import { checkConfirmable, cleanModel } from './lib/cleaning.mts'
import { main } from './lib/main.mts'
import { preflight } from './lib/preflight.mts'

await main(
  {
    name: 'clean',
    subject: ({ model }) => model,
    target: 'clean-model',
    purpose:
      'removes what a model left: its finished Jobs and their pods, and movers that no Job uses any more. With --spaces and --nfs also that copy: its evidence first, then what the evidence lists; files that nobody knows are left and named. It shows all of it and asks before it changes anything.',
    options: [
      'model',
      'spaces',
      'nfs',
      'yes',
      'dryRun',
      'context',
      'namespace',
      'timeout',
      'grace',
      'bucket',
      'endpoint',
      'region',
      'pvc',
      'image',
      'pipIndexUrl',
    ],
    named: ['model'],
    meanings: { spaces: 'remove the copy in Spaces' },
    jobs: 'are deleted',
    examples: [
      'make clean-model MODEL=gpt2',
      "make clean-model MODEL=gpt2 ARGS='--spaces --nfs'",
      'scripts/clean.mts --model gpt2 --nfs --yes',
    ],
  },
  async (session) => {
    const { spaces, nfs } = session.settings
    checkConfirmable(session.settings)
    await preflight(session, {
      jobs: [...(nfs ? ['model-clean-nfs' as const] : []), ...(spaces ? ['model-clean-spaces' as const] : [])],
      claim: nfs ? 'mount' : 'none',
      removes: true,
    })
    return cleanModel(session)
  },
)
