import { listReaders, readersOf } from './checks.mts'
import { type Copy, describeCopy, describeLeft, isEmpty, lookAtCopies, removeCopy } from './copies.mts'
import { exitCodes, Failure } from './failure.mts'
import { removeJob } from './job.mts'
import { type Leftovers, readLeftovers } from './leftovers.mts'
import { askForYes, canAsk } from './question.mts'
import type { Result, Session } from './session.mts'
import type { Settings } from './settings.mts'
import { stage } from './stages.mts'

const TITLE = 'clean'
/** Deleting a Job waits for its pods, which have ended. */
const GONE_SECONDS = 30

/** Refuses, before any call, a run that nobody could confirm. */
export function checkConfirmable({ yes, quiet }: Settings): void {
  if (yes || (canAsk() && !quiet)) return
  const why = quiet ? '--quiet shows nothing that one could say yes to' : 'there is no terminal to ask at'
  throw new Failure(why, 'add --yes to remove without a question', exitCodes.usage)
}

/** Shows what a model left, asks, and removes it: the copies that were named, then its Jobs, then movers that nobody uses. */
export function cleaned(session: Session): Promise<Result> {
  const { settings, story } = session
  return stage(session, TITLE, async () => {
    const leftovers = await readIdle(session)
    const copies = await lookAtCopies(session, TITLE)
    const full = copies.filter((copy) => !isEmpty(copy))
    const lines = [...full.map(describeCopy), ...describeLeftovers(leftovers)]
    const left = copies.flatMap(describeLeft)
    if (lines.length === 0) {
      const places = ['the namespace', ...copies.map(({ place }) => place)].join(', ')
      return tell(session, [`nothing of ${settings.model} to remove in ${places}`, ...left])
    }
    story.begun(TITLE, [`of ${settings.model} will be removed:`, ...lines, ...left].join('\n'))
    await warnOfReaders(session)
    await confirm(session)
    // The answer may have taken its time.
    await readIdle(session)
    for (const copy of full) await removeCopy(session, TITLE, copy)
    const removed = await removeLeftovers(session)
    session.outcome.facts.removed = documentOf(full, removed)
    return tell(session, [
      `of ${settings.model} was removed:`,
      ...full.map(describeCopy),
      ...describeLeftovers(removed),
      ...left,
    ])
  })
}

function tell({ story }: Session, lines: readonly string[]): Result {
  const text = lines.join('\n')
  story.done(TITLE, text)
  return { text }
}

/** What the cluster keeps; refuses while anything still works on the model. */
async function readIdle({ cluster, settings }: Session): Promise<Leftovers> {
  const leftovers = await readLeftovers(cluster, settings.model)
  const { live } = leftovers
  if (live.length === 0) return leftovers
  throw new Failure(
    `${live.join(' and ')} of ${settings.model} ${live.length === 1 ? 'is' : 'are'} still running`,
    'wait for the end, or delete what runs; then run the same command again',
  )
}

function describeLeftovers({ jobs, pods, configMaps }: Leftovers): string[] {
  const kinds = [
    [jobs, 'finished Job', 'finished Jobs'],
    [pods, 'finished pod without a Job', 'finished pods without a Job'],
    [configMaps, 'ConfigMap that no Job uses', 'ConfigMaps that no Job uses'],
  ] as const
  return kinds
    .filter(([found]) => found.length > 0)
    .map(
      ([found, one, many]) => `${found.length === 1 ? one : `${found.length} ${many}`}: ${namesOf(found).join(', ')}`,
    )
}

async function warnOfReaders({ cluster, settings, story }: Session): Promise<void> {
  if (!settings.nfs) return
  const readers = await readersOf(cluster, settings.pvc)
  if (readers.length === 0) return
  story.warned(TITLE, `${listReaders(readers)} ${settings.pvc} mounted: the files of ${settings.model} go under them`)
}

async function confirm({ settings, story, signal }: Session): Promise<void> {
  if (settings.yes) return
  if (await askForYes('  Remove all this?', signal)) return
  story.detail('')
  throw new Failure('not confirmed: nothing was removed', 'answer yes, or add --yes')
}

/** Looks again, for the errands may have come and gone: Jobs first, since they are what uses a ConfigMap. */
async function removeLeftovers({ cluster, settings }: Session): Promise<Leftovers> {
  const { live, jobs, pods } = await readLeftovers(cluster, settings.model)
  await Promise.all(jobs.map(({ metadata }) => removeJob(cluster, metadata, GONE_SECONDS)))
  await Promise.all(pods.map(({ metadata }) => cluster.deleteObject('pods', metadata)))
  // As late as can be: a Job that starts meanwhile may use one.
  const { configMaps } = await readLeftovers(cluster, settings.model)
  await Promise.all(configMaps.map(({ metadata }) => cluster.deleteObject('configmaps', metadata)))
  return { live, jobs, pods, configMaps }
}

function documentOf(copies: readonly Copy[], { jobs, pods, configMaps }: Leftovers): Record<string, unknown> {
  const sides = copies.map(({ kind, found }) => [
    kind === 'model-clean-nfs' ? 'nfs' : 'spaces',
    { files: found.files, bytes: found.bytes, left: found.unknown },
  ])
  return { ...Object.fromEntries(sides), jobs: namesOf(jobs), pods: namesOf(pods), configMaps: namesOf(configMaps) }
}

function namesOf(found: readonly { metadata: { name: string } }[]): string[] {
  return found.map(({ metadata }) => metadata.name)
}
