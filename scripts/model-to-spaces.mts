#!/bin/sh
':' //; exec "$(dirname "$(readlink -f "$0")")/run" "$0" "$@"
// Hop 1: HuggingFace Hub -> Spaces, as a Job.
// Example: scripts/model-to-spaces.mts --model meta-llama/Llama-3.1-8B-Instruct
import { main } from './lib/main.mts'
import { scriptOptions } from './lib/options.mts'
import { preflight } from './lib/preflight.mts'
import { moveToSpaces } from './lib/stages.mts'

await main(
  {
    name: 'model-to-spaces',
    subject: ({ model, bucket }) => `${model} -> s3://${bucket}`,
    purpose:
      'copies a model from the HuggingFace Hub into Spaces, in a Job in the cluster, and waits for its end. What is there already and proved is not moved again.',
    options: scriptOptions['model-to-spaces'],
    jobs: 'go on',
    examples: [
      'make model-to-spaces MODEL=meta-llama/Llama-3.1-8B-Instruct',
      'scripts/model-to-spaces.mts --model openai/gpt-oss-20b --revision main',
      "scripts/model-to-spaces.mts --model gpt2 --exclude '*.bin' --exclude '*.h5'",
    ],
  },
  async (session) => {
    await preflight(session, { jobs: ['model-upload-spaces'], claim: 'none' })
    return moveToSpaces(session)
  },
)
