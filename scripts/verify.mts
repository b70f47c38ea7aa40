#!/bin/sh
':' //; exec "$(dirname "$(readlink -f "$0")")/run" "$0" "$@"
// The three checkpoints: claim, files, Jobs. Changes nothing, in the cluster or on the volume.
// Example: scripts/verify.mts --model meta-llama/Llama-3.1-8B-Instruct
import { main } from './lib/main.mts'
import { verified } from './lib/verification.mts'

await main(
  {
    name: 'verify',
    purpose:
      'answers whether a model is staged: the claim is Bound, the files on the volume agree with their evidence, both Jobs completed. Reads the volume in a Job that is gone afterwards.',
    options: ['model', 'level', 'pv', 'pvc', 'context', 'namespace', 'timeout', 'image', 'restart'],
    jobs: 'are deleted',
    examples: [
      'make verify',
      'scripts/verify.mts --model meta-llama/Llama-3.1-8B-Instruct',
      'scripts/verify.mts --model gpt2 --level hashes --timeout 7200',
    ],
  },
  verified,
)
