#!/bin/sh
':' //; exec "$(dirname "$(readlink -f "$0")")/run" "$0" "$@"
// The whole way of a model: storage, to Spaces, to NFS, verify. Safe to run again at any point.
// Example: scripts/setup-model.mts --model meta-llama/Llama-3.1-8B-Instruct
import { main } from './lib/main.mts'
import { scriptOptions } from './lib/options.mts'
import { planModel } from './lib/plan.mts'
import { preflight } from './lib/preflight.mts'
import { bindClaim, moveToNfs, moveToSpaces } from './lib/stages.mts'
import { verifyModel } from './lib/verification.mts'

await main(
  {
    name: 'setup-model',
    subject: ({ model, bucket, pvc }) => `${model} -> s3://${bucket} -> ${pvc}`,
    purpose:
      'stages a model for the GPU servers: binds the storage, copies Hub -> Spaces -> NFS, and verifies the result. Safe to run again at any point: what is done is found done.',
    options: scriptOptions['setup-model'],
    jobs: 'go on',
    examples: [
      'make setup-model MODEL=openai/gpt-oss-20b',
      'scripts/setup-model.mts --model gpt2 --plan',
      'scripts/setup-model.mts --model gpt2 --revision main --timeout 7200',
    ],
  },
  async (session) => {
    if (session.settings.plan) {
      await preflight(session, { jobs: ['model-plan'], claim: 'none' })
      return planModel(session)
    }
    await preflight(session, {
      jobs: ['model-upload-spaces', 'model-download-nfs', 'model-verify-nfs'],
      claim: 'bind',
    })
    await bindClaim(session)
    await moveToSpaces(session)
    await moveToNfs(session)
    return verifyModel(session)
  },
)
