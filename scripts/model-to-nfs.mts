#!/bin/sh
':' //; exec "$(dirname "$(readlink -f "$0")")/run" "$0" "$@"
// Hop 2: Spaces -> the NFS volume, as a Job.
// Example: scripts/model-to-nfs.mts --model meta-llama/Llama-3.1-8B-Instruct
import { main } from './lib/main.mts'
import { scriptOptions } from './lib/options.mts'
import { preflight } from './lib/preflight.mts'
import { moveToNfs } from './lib/stages.mts'

await main(
  {
    name: 'model-to-nfs',
    subject: ({ model, bucket, pvc }) => `${model}, s3://${bucket} -> ${pvc}`,
    purpose:
      'copies a model from Spaces to the NFS volume, in a Job in the cluster, and waits for its end. What is there already and proved is not moved again.',
    options: scriptOptions['model-to-nfs'],
    jobs: 'go on',
    examples: [
      'make model-to-nfs MODEL=meta-llama/Llama-3.1-8B-Instruct',
      'scripts/model-to-nfs.mts --model gpt2 --timeout 7200',
      'scripts/model-to-nfs.mts --model gpt2 --pvc model-nfs-pvc-2',
    ],
  },
  async (session) => {
    await preflight(session, { jobs: ['model-download-nfs'], claim: 'mount' })
    return moveToNfs(session)
  },
)
