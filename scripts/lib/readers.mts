import { formatList } from './format.mts'
import type { Kubectl } from './kubectl.mts'
import { PART_OF } from './labels.mts'
import type { Pod } from './objects.mts'

/** Names in a sentence. */
const SHOWN = 3

/** Names of pods, other than our own Jobs', that have the claim mounted or are about to. */
export async function readersOf(cluster: Kubectl, claim: string): Promise<string[]> {
  const pods = await cluster.list<Pod>('pods', `app.kubernetes.io/part-of!=${PART_OF}`)
  return pods
    .filter(({ status }) => status.phase !== 'Succeeded' && status.phase !== 'Failed')
    .filter(({ spec }) => spec.volumes?.some((volume) => volume.persistentVolumeClaim?.claimName === claim))
    .map(({ metadata }) => metadata.name)
}

/** `pods a, b and 3 more have`, as the beginning of a sentence. */
export function listReaders(readers: readonly string[]): string {
  return `${readers.length === 1 ? 'pod' : 'pods'} ${formatList(readers, SHOWN)} ${readers.length === 1 ? 'has' : 'have'}`
}
