#!/bin/sh
':' //; exec "$(dirname "$(readlink -f "$0")")/run" "$0" "$@"
// The model's part of Job names and labels.
// Example: scripts/slug.mts --model meta-llama/Llama-3.1-8B-Instruct
import { withSettings } from './lib/main.mts'
import { slugOf } from './lib/model.mts'

await withSettings(
  {
    name: 'slug',
    subject: ({ model }) => model,
    purpose: 'prints the part of Job names and labels that stands for a model: MODEL_SLUG of the manifests.',
    options: ['model'],
    jobs: 'none',
    examples: [
      'make slug MODEL=gpt2',
      'scripts/slug.mts --model meta-llama/Llama-3.1-8B-Instruct',
      'export MODEL=gpt2 MODEL_SLUG=$(MODEL=gpt2 scripts/slug.mts)',
    ],
  },
  ({ model }, outcome) => {
    const slug = slugOf(model)
    outcome.facts.slug = slug
    return { text: slug }
  },
)
