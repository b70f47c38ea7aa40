import { applyDefaults } from './defaults.mts'
import { pods } from './kinds.mts'
import type { Job, Pod } from './objects.mts'
import { nameSuffix } from './resources.mts'

/** The finalizer on a Job's pods until their end is counted. */
export const TRACKING = 'batch.kubernetes.io/job-tracking'
/** The label and annotation with the index of a pod of an Indexed Job. */
export const INDEX = 'batch.kubernetes.io/job-completion-index'

/** Longer generated names are cut here, so that they fit into a label with their suffix. */
const LONGEST_BASE = 58

/** A new pod of the Job, its name beginning with `base`; `index` is the completion index in an Indexed Job. */
export function podOf(job: Job, base: string, index: number | undefined): Pod {
  const { name, namespace, uid } = job.metadata
  const { labels, annotations } = job.spec.template.metadata
  const indexed = index === undefined ? {} : { [INDEX]: String(index) }
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: base.slice(0, LONGEST_BASE) + nameSuffix(),
      generateName: base,
      namespace,
      labels: { ...labels, ...indexed },
      ...((annotations || index !== undefined) && { annotations: { ...annotations, ...indexed } }),
      finalizers: [TRACKING],
      ownerReferences: [{ apiVersion: 'batch/v1', blockOwnerDeletion: true, controller: true, kind: 'Job', name, uid }],
    },
    spec: structuredClone(job.spec.template.spec),
  } as unknown as Pod
  if (index !== undefined) {
    pod.spec.hostname = `${name}-${index}`
    const fieldRef = { apiVersion: 'v1', fieldPath: `metadata.labels['${INDEX}']` }
    for (const container of pod.spec.containers) {
      container.env = [...(container.env ?? []), { name: 'JOB_COMPLETION_INDEX', valueFrom: { fieldRef } }]
    }
  }
  applyDefaults(pods, pod)
  return pod
}
