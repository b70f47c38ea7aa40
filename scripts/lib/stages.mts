import { withSettingsNamed } from './advice.mts'
import { Failure, Interrupted } from './failure.mts'
import { Follower, type JobDone, JobGone } from './follow.mts'
import { formatBytes, formatCount, formatSeconds } from './format.mts'
import { startJob } from './job.mts'
import { KubectlError } from './kubectl.mts'
import type { JobKind } from './labels.mts'
import { type JobManifest, renderJob, renderMover } from './manifest.mts'
import type { Metadata } from './objects.mts'
import { noteMover, type StageOutcome } from './outcome.mts'
import { refuseBeside } from './rivals.mts'
import type { Result, Session } from './session.mts'
import { bindStorage } from './storage.mts'
import { isRemoval } from './work.mts'

/** The claim bound to its volume; says what was done, or why it was done already. */
export function bindClaim(session: Session): Promise<Result> {
  return runStage(session, 'storage', async () => {
    const sentence = await bindStorage(session)
    if (session.settings.dryRun) session.story.would('storage', sentence)
    else session.story.done('storage', sentence)
    return { text: `${session.settings.pvc} is Bound to ${session.settings.pv}` }
  })
}

/** Hop 1. */
export function moveToSpaces(session: Session): Promise<Result> {
  const { bucket, model } = session.settings
  return runStage(session, 'to Spaces', (noted) =>
    move(session, noted, 'model-upload-spaces', `s3://${bucket}/models/${model}/`),
  )
}

/** Hop 2. */
export function moveToNfs(session: Session): Promise<Result> {
  const { pvc, model } = session.settings
  return runStage(session, 'to NFS', (noted) => move(session, noted, 'model-download-nfs', `${pvc}:/${model}/`))
}

/** Every failure on the way bears the stage's title, and every end is noted. */
export async function runStage<T>(
  session: Session,
  title: string,
  run: (noted: StageOutcome) => Promise<T>,
): Promise<T> {
  const { outcome, again } = session
  try {
    return await outcome.record(title, run)
  } catch (error) {
    if (error instanceof Failure || error instanceof Interrupted) error.stage ??= title
    if (error instanceof Failure) error.next = withSettingsNamed(error.next, session)
    if (error instanceof Interrupted) error.next ??= `to go on: ${again}`
    throw error
  }
}

async function move(session: Session, noted: StageOutcome, kind: JobKind, target: string): Promise<Result> {
  const { settings, story } = session
  const title = noted.stage
  const mover = await renderMover(settings.namespace)
  for (let isFirst = true; ; isFirst = false) {
    const manifest = await renderJob(kind, settings, mover.metadata.name)
    await refuseBeside(session, isRemoval)
    const { job, joined } = await orSayHowToStop(session, manifest, startJob(session, title, manifest, mover))
    if (!joined) await orTakeBack(session, job, refuseBeside(session, isRemoval))
    const running = `Job ${job.name} is running already with these settings`
    if (settings.dryRun) {
      story.would(title, joined ? `${running}: it would be joined` : `Job ${job.name} would be started`)
      return { text: target }
    }
    story.begun(title, joined ? `${running}: joined` : `Job ${job.name} started`)
    try {
      const done = await new Follower(session, job, true).run()
      noteMover(noted, done)
      const sentence = done
        ? result(done, target)
        : `Job ${job.name} completed; no report of its pod, which knows the numbers, is left`
      story.done(title, sentence)
      return { text: done ? `${target} ${done.commit}` : target }
    } catch (error) {
      if (!(error instanceof JobGone && error.mayBeDone && isFirst)) throw error
      story.begun(title, `${error.message}: looking again, which moves nothing that is there`)
    }
  }
}

/** An interrupted start may have reached the cluster. */
async function orSayHowToStop<T>(session: Session, { metadata }: JobManifest, starting: Promise<T>): Promise<T> {
  const { settings, cluster, again } = session
  try {
    return await starting
  } catch (error) {
    if (error instanceof Interrupted && !settings.dryRun)
      error.next = `if Job ${metadata.name} runs, it goes on; to stop it: ${cluster.command('delete', 'job', metadata.name)}\nto go on: ${again}`
    throw error
  }
}

/** Deletes the Job, which has hardly begun, when what is asked of the cluster fails; says so where it cannot. */
async function orTakeBack({ cluster }: Session, job: Metadata, asked: Promise<void>): Promise<void> {
  try {
    await asked
  } catch (error) {
    try {
      await cluster.afterInterruption().deleteJob(job, 'Background')
    } catch (failure) {
      if (!(failure instanceof KubectlError && (error instanceof Interrupted || error instanceof Failure))) throw error
      error.next = `Job ${job.name} goes on in the cluster; to stop it: ${cluster.command('delete', 'job', job.name)}`
    }
    throw error
  }
}

function result(done: JobDone, target: string): string {
  const { files, bytes, moved, filesMoved, seconds, commit, earlierPods } = done
  const what = `${formatCount(files, 'file')}, ${formatBytes(bytes)}, commit ${commit.slice(0, 8)}`
  // What the pods before it moved is there for the last one, which is the only one that tells.
  const last = `the last of ${earlierPods + 1} pods`
  if (filesMoved === 0)
    return `${target} holds ${what}; ${earlierPods ? `${last} found it there` : 'it was there already'}, nothing moved`
  const rate = seconds > 0 && moved > 0 ? ` (${formatBytes(moved / seconds)}/s)` : ''
  const by = earlierPods ? `, by ${last}` : ''
  const skipped = `${files - filesMoved} skipped`
  return `${target} holds ${what}; ${formatCount(filesMoved, 'file')} moved, ${skipped}, ${formatBytes(moved)} in ${formatSeconds(seconds)}${rate}${by}`
}
