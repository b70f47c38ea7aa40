#!/bin/sh
':' //; exec "$(dirname "$(readlink -f "$0")")/run" "$0" "$@"
// The three checkpoints: claim, files, Jobs. Without --repair it changes nothing, in the cluster or on the volume.
// Example: scripts/verify.mts --model meta-llama/Llama-3.1-8B-Instruct
import { main } from './lib/main.mts'
import { scriptOptions } from './lib/options.mts'
import { preflight } from './lib/preflight.mts'
import { repairCopy, verifyModel } from './lib/verification.mts'

await main(
  {
    name: 'verify',
    subject: ({ model, spaces, bucket, pvc }) => `${model} on ${spaces ? `s3://${bucket}` : pvc}`,
    purpose:
      'answers whether a model is staged: the claim is Bound, the files on the volume agree with their evidence, both Jobs completed. Reads the volume, or with --spaces the bucket, in a Job that is gone afterwards. With --repair the transfer of that side runs first, with its own settings.',
    options: scriptOptions.verify,
    jobs: 'are deleted',
    examples: [
      'make verify',
      'scripts/verify.mts --model gpt2 --level hashes --timeout 7200',
      'scripts/verify.mts --model gpt2 --spaces --repair',
    ],
  },
  async (session) => {
    const { spaces, repair } = session.settings
    const jobs = spaces
      ? (['model-verify-spaces', 'model-upload-spaces'] as const)
      : (['model-verify-nfs', 'model-download-nfs'] as const)
    // To look, the claim is a checkpoint of its own; a repair has to have it.
    const claim = repair && !spaces ? 'mount' : 'none'
    await preflight(session, { jobs: repair ? jobs : jobs.slice(0, 1), claim })
    await repairCopy(session)
    return verifyModel(session)
  },
)
