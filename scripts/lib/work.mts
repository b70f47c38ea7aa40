import { CONTAINER } from './labels.mts'
import type { Job, Pod } from './objects.mts'

/** A Job, or a pod that its Job has left behind. */
export type Work = Job | Pod

/** It moves files of the model. */
export function isTransfer({ metadata }: Work): boolean {
  return /^model-(upload-spaces|download-nfs)$/.test(metadata.labels?.['app.kubernetes.io/name'] ?? '')
}

/** It removes files of the model, and does not only look which. */
export function isRemoval(work: Work): boolean {
  const mover = podSpecOf(work).containers.find(({ name }) => name === CONTAINER)
  return mover?.env?.some(({ name, value }) => name === 'CONFIRMED' && value === 'true') ?? false
}

/** A removal that was made and never begun, as whoever made it was killed in that moment, or is about to begin it. */
export function isStranded(work: Work): boolean {
  return work.kind === 'Job' && work.spec.suspend === true && isRemoval(work)
}

/** What a Job's pods are made of, or what a pod is. */
export function podSpecOf(one: Job | Pod): Job['spec']['template']['spec'] {
  return one.kind === 'Job' ? one.spec.template.spec : one.spec
}
