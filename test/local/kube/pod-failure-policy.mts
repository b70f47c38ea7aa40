import type { Job, Pod, PodFailurePolicyRule } from './objects.mts'

export interface Judgement {
  /** Whether the failure counts towards backoffLimit. */
  counts: boolean
  /** Set: the Job ends now, with this message. */
  failJob?: string
}

/** What the first rule that matches says about a failed pod; without one the failure counts. */
export function judge(job: Job, pod: Pod): Judgement {
  if (pod.status.phase !== 'Failed') return { counts: true }
  for (const [index, rule] of (job.spec.podFailurePolicy?.rules ?? []).entries()) {
    const cause = matches(rule, pod)
    if (cause === undefined) continue
    if (rule.action === 'Ignore') return { counts: false }
    if (rule.action === 'FailJob') return { counts: true, failJob: `${cause} matching FailJob rule at index ${index}` }
    return { counts: true }
  }
  return { counts: true }
}

/** The cause in the real controller's words, or undefined when the rule does not match. */
function matches({ onExitCodes, onPodConditions }: PodFailurePolicyRule, pod: Pod): string | undefined {
  const name = `${pod.metadata.namespace}/${pod.metadata.name}`
  const condition = onPodConditions?.find((pattern) =>
    pod.status.conditions?.some(({ type, status }) => type === pattern.type && status === (pattern.status ?? 'True')),
  )
  if (condition) return `Pod ${name} has condition ${condition.type}`
  if (!onExitCodes) return undefined
  const { containerName, operator, values } = onExitCodes
  const statuses = [...(pod.status.initContainerStatuses ?? []), ...(pod.status.containerStatuses ?? [])]
  for (const { name: container, state } of statuses) {
    const code = state.terminated?.exitCode ?? 0
    if (code === 0 || (containerName !== undefined && containerName !== container)) continue
    if (values.includes(code) === (operator === 'In')) {
      return `Container ${container} for pod ${name} failed with exit code ${code}`
    }
  }
  return undefined
}
