import { runErrand } from './errand.mts'
import { Failure } from './failure.mts'
import { formatBytes, formatCount, formatSeconds } from './format.mts'
import { withoutClaim } from './manifest.mts'
import type { PersistentVolumeClaim } from './objects.mts'
import { noteMover } from './outcome.mts'
import { askPatiently } from './patience.mts'
import { listReaders, readersOf } from './readers.mts'
import type { MoverDone, PlanNumbers } from './report.mts'
import type { Result, Session } from './session.mts'
import type { Settings } from './settings.mts'
import { runStage } from './stages.mts'
import { lineOf } from './story.mts'

const TITLE = 'plan'
/** What a node with a link of 2 Gbit/s moves in a second. */
const BYTES_PER_SECOND = 250e6

/** What the plan's Job found. */
export interface Plan extends PlanNumbers {
  commit: string
  files: number
  bytes: number
}

/** Asks, in the cluster and with its own Secrets, what setup-model would move; no model bytes move. */
export function planModel(session: Session): Promise<Result> {
  const { settings, cluster, outcome, story } = session
  return runStage(session, TITLE, async (noted) => {
    const claim = await askPatiently(session, () => cluster.find<PersistentVolumeClaim>('pvc', settings.pvc))
    const obstacle = mountObstacle(claim)
    const mounted = obstacle === undefined
    const done = await runErrand(session, {
      title: TITLE,
      kind: 'model-plan',
      doing: mounted ? 'looks at the Hub, the bucket and the volume' : 'looks at the Hub and the bucket',
      ...(mounted ? {} : { edit: withoutClaim }),
    })
    const plan = planOf(done)
    noteMover(noted, done)
    // Without the claim, it was the room on the pod's own disk.
    outcome.facts.plan = { ...plan, freeBytes: mounted ? plan.freeBytes : null, volumeLookedAt: mounted }
    const readers = mounted ? await askPatiently(session, () => readersOf(cluster, settings.pvc)) : []
    const result = describePlan(plan, settings, obstacle, readers)
    if (result.problem) {
      story.failed(TITLE, result.problem.detail)
      story.advice(result.problem.next)
    }
    return result
  })
}

function planOf(done: MoverDone | undefined): Plan {
  if (!done?.plan) throw new Failure('report-lost', 'the plan got lost with its pod', 'run the same command again')
  const { commit, files, bytes, plan } = done
  return { commit, files, bytes, ...plan }
}

/** Why a claim cannot be mounted now, as in `PVC x …`; undefined where it can. */
function mountObstacle(claim: PersistentVolumeClaim | undefined): string | undefined {
  if (!claim) return 'does not exist'
  if (claim.metadata.deletionTimestamp !== undefined) return 'is being deleted'
  const phase = claim.status?.phase ?? 'Pending'
  return phase === 'Bound' ? undefined : `is ${phase}, not Bound`
}

/** Pure: the plan for people, and what stands against a run. `obstacle`: why the volume was not looked at, if it was not. */
export function describePlan(
  plan: Plan,
  settings: Settings,
  obstacle: string | undefined,
  readers: readonly string[],
): Result {
  const { bucket, model, revision, pvc, timeout } = settings
  const mounted = obstacle === undefined
  const toSpaces = plan.bytes - plan.spacesBytes
  const toVolume = plan.bytes - (mounted ? plan.volumeBytes : 0)
  const fits = !mounted || plan.freeBytes >= toVolume
  const lines = [
    lineOf(
      '•',
      'model',
      `${model} at commit ${plan.commit.slice(0, 8)} (${revision}): ${filesOf(plan.files, plan.bytes)}`,
    ),
    lineOf('•', 'left out', leftOut(plan)),
    lineOf('•', 'to Spaces', `s3://${bucket}/models/${model}/ ${hop(plan.spacesFiles, plan.spacesBytes, toSpaces)}`),
    mounted
      ? lineOf('•', 'to NFS', `${pvc}:/${model}/ ${hop(plan.volumeFiles, plan.volumeBytes, toVolume)}`)
      : lineOf('•', 'to NFS', `PVC ${pvc} ${obstacle}, so the volume was not looked at; at most ${move(toVolume)}`),
  ]
  if (mounted && fits)
    lines.push(
      lineOf('•', 'volume', `${formatBytes(plan.freeBytes)} free, ${formatBytes(toVolume)} needed: it suffices`),
    )
  const lacking = formatBytes(toVolume - plan.freeBytes)
  const tooSmall = `${formatBytes(plan.freeBytes)} free, ${formatBytes(toVolume)} needed: ${lacking} are missing`
  if (!fits) lines.push(lineOf('✗', 'volume', tooSmall))
  const longest = Math.max(toSpaces, toVolume) / BYTES_PER_SECOND
  if (longest > timeout) {
    const enough = Math.ceil((longest * 1.5) / 600) * 600
    lines.push(
      lineOf(
        '!',
        'timeout',
        `${formatSeconds(longest)} for one hop is longer than --timeout ${timeout}: give it ${enough}`,
      ),
    )
  }
  if (plan.changingFiles > 0 && mounted) {
    const what = `${formatCount(plan.changingFiles, 'file')} on the volume would be replaced or removed`
    const who = readers.length > 0 ? `, and ${listReaders(readers)} it mounted` : '; no pod has it mounted'
    lines.push(lineOf(readers.length > 0 ? '!' : '•', 'changes', `${what}${who}`))
  }
  const text = lines.join('\n')
  if (fits) return { text }
  const next = 'make room on the volume or enlarge it, then run the same command again'
  return {
    text,
    problem: { cause: 'no-space', detail: `${model} does not fit on the volume of ${pvc}: ${tooSmall}`, next },
  }
}

function leftOut({ leftOutFiles, leftOutBytes, include, exclude }: Plan): string {
  if (leftOutFiles === 0) return 'nothing'
  const filters = [
    ...(include.length > 0 ? [`--include ${include.join(' ')}`] : []),
    ...(exclude.length > 0 ? [`--exclude ${exclude.join(' ')}`] : []),
  ]
  return `${filesOf(leftOutFiles, leftOutBytes)} (${filters.join(', ')})`
}

function hop(files: number, bytes: number, toMove: number): string {
  return `${files > 0 ? `holds ${filesOf(files, bytes)}` : 'holds nothing of it'}; ${move(toMove)}`
}

function move(bytes: number): string {
  if (bytes === 0) return 'nothing to move'
  return `${formatBytes(bytes)} to move: ${formatSeconds(bytes / BYTES_PER_SECOND)} at ${formatBytes(BYTES_PER_SECOND)}/s (a link of 2 Gbit/s)`
}

function filesOf(files: number, bytes: number): string {
  return `${formatCount(files, 'file')}, ${formatBytes(bytes)}`
}
