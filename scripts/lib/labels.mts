import { slugOf } from './model.mts'

/** What `app.kubernetes.io/part-of` says on all that is ours. */
export const PART_OF = 'model-storage-pipeline'

/** What our objects note of themselves where a label cannot hold it. */
export const annotation = {
  model: 'model-storage-pipeline/model',
  settings: 'model-storage-pipeline/settings',
  settingsHash: 'model-storage-pipeline/settings-hash',
  /** Which run has made the Job, and, of an errand's, that another one follows it too. */
  run: 'model-storage-pipeline/run',
  joined: 'model-storage-pipeline/joined',
} as const

/** The one container of our Jobs. */
export const CONTAINER = 'mover'

/** The Jobs of the suite: what the manifest's file is called, and so the Job, less the slug. */
export type JobKind =
  | 'model-upload-spaces'
  | 'model-download-nfs'
  | 'model-verify-nfs'
  | 'model-verify-spaces'
  | 'model-clean-spaces'
  | 'model-clean-nfs'
  | 'model-plan'

export function jobName(kind: JobKind, model: string): string {
  return `${kind}-${slugOf(model)}`
}

/** A selector of a Job's pods, by what Kubernetes itself (from 1.27) puts on them: a Job made by hand may bear no labels of ours. */
export function podsOf(uid: string): string {
  return `batch.kubernetes.io/controller-uid=${uid}`
}
