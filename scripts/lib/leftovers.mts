import { isFinished } from './job.mts'
import { annotation, PART_OF } from './labels.mts'
import type { ConfigMap, Job, Pod } from './objects.mts'
import { askPatiently } from './patience.mts'
import type { Session } from './session.mts'
import { isStranded, podSpecOf } from './work.mts'

/** What the cluster keeps of a model. */
export interface Leftovers {
  /** What still works on the model. */
  live: (Job | Pod)[]
  jobs: Job[]
  /** Finished pods whose Job was deleted without them; the others go with their Job. */
  pods: Pod[]
  /** The mover as a ConfigMap, each version that no other Job uses. */
  configMaps: ConfigMap[]
}

/** A selector of all that is ours. */
export const OURS = `app.kubernetes.io/part-of=${PART_OF}`
/** `model-mover` alone is the by-hand flow's. */
const MOVER = /^model-mover-[0-9a-f]{10}$/

/** What the cluster keeps of the run's model. */
export async function readLeftovers(session: Session): Promise<Leftovers> {
  return leftoversOf(await readOurs(session), session.settings.model, true)
}

/** All that bears our labels in the namespace, of every model. */
export function readOurs(session: Session): Promise<(Job | Pod | ConfigMap)[]> {
  return askPatiently(session, () => session.cluster.list('jobs,pods,configmaps', OURS))
}

/**
 * Pure. A model's objects are told by the exact id in their annotation: a slug may stand for several.
 *
 * `strandedToo`: a removal that was never begun is none that works. Only to another removal, which waits for it first.
 */
export function leftoversOf(found: readonly (Job | Pod | ConfigMap)[], model: string, strandedToo = false): Leftovers {
  const isOurs = ({ metadata }: Job | Pod) => metadata.annotations?.[annotation.model] === model
  const jobs = found.filter((one) => one.kind === 'Job')
  const uids = new Set(jobs.map(({ metadata }) => metadata.uid))
  const orphans = found
    .filter((one) => one.kind === 'Pod')
    .filter(({ metadata }) => !metadata.ownerReferences?.some(({ uid }) => uids.has(uid)))
  const going = [
    ...jobs.filter((job) => isOurs(job) && (isFinished(job) || (strandedToo && isStranded(job)))),
    ...orphans.filter((pod) => isOurs(pod) && hasEnded(pod)),
  ]
  const staying = [...jobs, ...orphans].filter((one) => !going.includes(one))
  const used = new Set(staying.flatMap(volumesOf).map(({ configMap }) => configMap?.name))
  return {
    live: staying.filter(isOurs),
    jobs: going.filter((one) => one.kind === 'Job'),
    pods: going.filter((one) => one.kind === 'Pod'),
    configMaps: found
      .filter((one) => one.kind === 'ConfigMap')
      .filter(({ metadata }) => MOVER.test(metadata.name) && !used.has(metadata.name)),
  }
}

function hasEnded({ status }: Pod): boolean {
  return status.phase === 'Succeeded' || status.phase === 'Failed'
}

function volumesOf(one: Job | Pod) {
  return podSpecOf(one).volumes ?? []
}
