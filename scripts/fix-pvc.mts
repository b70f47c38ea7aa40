#!/bin/sh
':' //; exec "$(dirname "$(readlink -f "$0")")/run" "$0" "$@"
// Binds the claim on the model share to its volume.
// Example: scripts/fix-pvc.mts --namespace dynamo-workload
import { main } from './lib/main.mts'
import { scriptOptions } from './lib/options.mts'
import { preflight } from './lib/preflight.mts'
import { bindClaim } from './lib/stages.mts'

await main(
  {
    name: 'fix-pvc',
    subject: ({ pv, pvc }) => `${pvc} -> ${pv}`,
    purpose:
      'brings the claim on the model share to Bound on its PersistentVolume. A Released volume is freed when the claim that it names is ours; nothing else is ever changed.',
    options: scriptOptions['fix-pvc'],
    meanings: { grace: 'how long to wait for the claim to be Bound' },
    jobs: 'none',
    examples: [
      'make fix-pvc',
      'scripts/fix-pvc.mts --context do-nyc2-gtc-demo --namespace dynamo-workload',
      'scripts/fix-pvc.mts --pv model-nfs-pv-2 --pvc model-nfs-pvc-2',
    ],
  },
  async (session) => {
    await preflight(session, { jobs: [], claim: 'bind' })
    return bindClaim(session)
  },
)
