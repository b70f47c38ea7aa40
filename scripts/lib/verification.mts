import { withSettingsNamed } from './advice.mts'
import { diagnoseFailure } from './diagnosis.mts'
import { runErrand } from './errand.mts'
import { Failure } from './failure.mts'
import { formatBytes } from './format.mts'
import { annotation, type JobKind, jobName, podsOf } from './labels.mts'
import type { Job, Pod } from './objects.mts'
import { noteMover, type StageOutcome } from './outcome.mts'
import { askPatiently } from './patience.mts'
import { trueCondition } from './pod.mts'
import { listPaths, type MoverDone } from './report.mts'
import type { Result, Session } from './session.mts'
import type { Settings } from './settings.mts'
import { moveToNfs, moveToSpaces, runStage } from './stages.mts'
import { decideStorage, readStorage, wantedClaim } from './storage.mts'
import { lineOf } from './story.mts'

/** One line of the verdict. */
export interface Checkpoint {
  title: string
  holds: boolean
  sentence: string
  /** What to run when it does not hold, else empty. */
  next: string
  /** It could not be looked at, and why that is by name: it is neither proved nor disproved. */
  unknown?: string
}

const TITLE = 'verify'
/** The mover's words that disprove; every other failure has looked at nothing. */
const DISPROOFS = ['mismatch', 'no-evidence', 'other-evidence']
/** The names of what does not hold, for machines. */
const CAUSES: Record<string, string> = {
  claim: 'checkpoint-claim',
  files: 'checkpoint-files',
  jobs: 'checkpoint-jobs',
}

/** With --repair, the transfer of the side that is going to be looked at, as a stage of its own. */
export async function repairCopy(session: Session): Promise<void> {
  const { repair, spaces } = session.settings
  if (repair) await (spaces ? moveToSpaces(session) : moveToNfs(session))
}

/** The checkpoints, each looked at whatever the others say, and the verdict. */
export function verifyModel(session: Session): Promise<Result> {
  const { model, spaces } = session.settings
  return runStage(session, TITLE, async (noted) => {
    if (session.settings.dryRun) {
      // What it would find is known when the rest has been done.
      await readFiles(session)
      return { text: '' }
    }
    const found = spaces ? await checkSpaces(session, noted) : await checkVolume(session, noted)
    const checkpoints = found.map((one) => ({ ...one, next: withSettingsNamed(one.next, session) }))
    noted.checkpoints = checkpoints.map((one) => ({ ...one, next: one.next || null }))
    const all = withSettingsNamed('run make setup-model: it does what is missing, in order', session)
    const result = verdict(checkpoints, model, spaces ? { state: 'in Spaces' } : { state: 'staged', all })
    if (result.problem) {
      const open = checkpoints.filter(({ holds }) => !holds).map(({ title }) => title)
      session.story.failed(
        TITLE,
        `${open.length} of ${checkpoints.length} checkpoints of ${model} do not hold: ${open.join(', ')}`,
      )
      session.story.advice(result.problem.next)
    } else session.story.done(TITLE, `${checkpoints.length} checkpoints hold`)
    return result
  })
}

/**
 * One line a checkpoint and one for all of them. `state` is what all of them prove of the model, `all` what to run where
 * several do not hold; without it, or where the first could not be looked at, it is what the first one says.
 */
export function verdict(
  checkpoints: readonly Checkpoint[],
  model: string,
  { state, all }: { state: string; all?: string },
): Result {
  const open = checkpoints.filter(({ holds }) => !holds)
  const lines = checkpoints.map(({ holds, title, sentence, next }) =>
    holds ? lineOf('✓', title, sentence) : lineOf('✗', title, `${sentence}; ${next}`),
  )
  const last =
    open.length === 0
      ? lineOf('✓', 'verdict', `${model} is ${state}`)
      : lineOf('✗', 'verdict', `${model} is not proved to be ${state}: ${open.map(({ title }) => title).join(', ')}`)
  const text = [...lines, last].join('\n')
  const [first] = open
  if (!first) return { text }
  const { title, sentence: detail, unknown } = first
  const next = open.length > 1 && unknown === undefined ? (all ?? first.next) : first.next
  return { text, problem: { cause: unknown ?? CAUSES[title] ?? title, detail, next } }
}

/** Claim, files, Jobs. */
async function checkVolume(session: Session, noted: StageOutcome): Promise<Checkpoint[]> {
  const claim = await checkClaim(session)
  const files = claim.holds ? await checkFiles(session, noted) : notChecked(session, claim)
  return [claim, files, await checkJobs(session, ['model-upload-spaces', 'model-download-nfs'], files)]
}

/** The same of the bucket, which has no claim and one Job. */
async function checkSpaces(session: Session, noted: StageOutcome): Promise<Checkpoint[]> {
  const files = await checkFiles(session, noted)
  return [files, await checkJobs(session, ['model-upload-spaces'], files)]
}

async function checkClaim(session: Session): Promise<Checkpoint> {
  const { cluster, settings } = session
  const title = 'claim'
  const found = await askPatiently(session, () => readStorage(cluster, settings))
  if (!found.claim)
    return { title, holds: false, sentence: `PVC ${settings.pvc} does not exist`, next: 'run make fix-pvc' }
  const decision = decideStorage(found, await wantedClaim(found, settings))
  if (decision.action === 'nothing') return { title, holds: true, sentence: decision.sentence, next: '' }
  if (decision.action === 'refuse') return { title, holds: false, sentence: decision.fact, next: decision.next }
  const state = found.claim ? (found.claim.status?.phase ?? 'Pending') : 'missing'
  return {
    title,
    holds: false,
    sentence: `PVC ${settings.pvc} is ${state}, not Bound to ${settings.pv}`,
    next: 'run make fix-pvc',
  }
}

function notChecked({ settings }: Session, claim: Checkpoint): Checkpoint {
  const sentence = `the files of ${settings.model} cannot be looked at without the claim`
  return { title: 'files', holds: false, sentence, next: claim.next, unknown: 'checkpoint-files' }
}

function readFiles(session: Session): Promise<MoverDone | undefined> {
  const errand = session.settings.spaces
    ? ({ kind: 'model-verify-spaces', doing: 'reads the bucket' } as const)
    : ({ kind: 'model-verify-nfs', doing: 'reads the volume' } as const)
  return runErrand(session, { title: TITLE, ...errand })
}

async function checkFiles(session: Session, noted: StageOutcome): Promise<Checkpoint> {
  const title = 'files'
  try {
    const done = await readFiles(session)
    noteMover(noted, done)
    return { title, holds: true, sentence: agreement(session, done), next: '' }
  } catch (error) {
    if (!(error instanceof Failure) || error.exitCode !== 1) throw error
    const unknown = DISPROOFS.includes(error.reason) ? {} : { unknown: error.reason }
    return { title, holds: false, sentence: error.message, next: error.next, ...unknown }
  }
}

function agreement({ settings }: Session, done: MoverDone | undefined): string {
  const what = { names: 'names', sizes: 'names and sizes', hashes: 'names, sizes and SHA-256' }[settings.level]
  const agree = `${what} agree with the evidence ${whereOf(settings)}`
  if (!done) return agree
  const { files, bytes, commit, unknown, more } = done
  const strange = unknown.length > 0 ? `; not in the evidence: ${listPaths(unknown, more?.unknown)}` : ''
  return `${files} files, ${formatBytes(bytes)}, commit ${commit.slice(0, 8)}: ${agree}${strange}`
}

function whereOf({ spaces }: Settings): string {
  return spaces ? 'in Spaces' : 'on the volume'
}

/** The transfers completed, or their TTL has removed them and the evidence says that they did. */
async function checkJobs(session: Session, kinds: readonly JobKind[], files: Checkpoint): Promise<Checkpoint> {
  const title = 'jobs'
  const states = await Promise.all(kinds.map((kind) => jobState(session, kind, files)))
  const open = states.filter(({ next }) => next)
  return {
    title,
    holds: open.length === 0,
    sentence: (open.length > 0 ? open : states).map(({ sentence }) => sentence).join('; '),
    next: open[0]?.next ?? '',
  }
}

async function jobState(
  session: Session,
  kind: JobKind,
  files: Checkpoint,
): Promise<{ sentence: string; next?: string }> {
  const { cluster, settings } = session
  const name = jobName(kind, settings.model)
  const again = `run make ${kind === 'model-upload-spaces' ? 'model-to-spaces' : 'model-to-nfs'}`
  const job = await askPatiently(session, () => cluster.find<Job>('job', name))
  if (!job || job.metadata.annotations?.[annotation.model] !== settings.model) {
    if (files.holds)
      return { sentence: `${name} is gone by its TTL, the evidence ${whereOf(settings)} shows that it completed` }
    if (files.unknown)
      return {
        sentence: `there is no Job ${name}, and whether one completed is not known: the evidence was not read`,
        next: files.next,
      }
    return { sentence: `there is no Job ${name} and no evidence that it completed`, next: again }
  }
  if (trueCondition(job.status.conditions, 'Complete'))
    return { sentence: `${name} completed at ${job.status.completionTime}` }
  if (!trueCondition(job.status.conditions, 'Failed'))
    return { sentence: `${name} is running`, next: `${again}: it joins the Job and waits` }
  const { uid } = job.metadata
  const [pods, events] = await askPatiently(session, () =>
    Promise.all([cluster.list<Pod>('pods', podsOf(uid)), cluster.eventsIfPermitted(uid)]),
  )
  return { sentence: `the last run of ${name} failed: ${diagnoseFailure({ job, pods, events }).detail}`, next: again }
}
