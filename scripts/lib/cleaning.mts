import {
  type Copy,
  describeCopy,
  describeLeft,
  isEmpty,
  lookAtCopy,
  rehearseRemoval,
  removeCopy,
  sidesOf,
} from './copies.mts'
import { exitCodes, Failure, Interrupted } from './failure.mts'
import { formatCount } from './format.mts'
import { type Leftovers, readLeftovers, readOurs } from './leftovers.mts'
import type { ConfigMap, Job, Pod } from './objects.mts'
import { Pace } from './pace.mts'
import { askPatiently } from './patience.mts'
import { askForYes, canAsk } from './question.mts'
import { listReaders, readersOf } from './readers.mts'
import { refuse } from './rivals.mts'
import type { Result, Session } from './session.mts'
import type { Settings } from './settings.mts'
import { runStage } from './stages.mts'

const TITLE = 'clean'
/** Deleting a Job waits for its pods, which have ended. */
const GONE_SECONDS = 30

type Going = Job | Pod | ConfigMap
type Gone = Omit<Leftovers, 'live'>
const NONE: Gone = { jobs: [], pods: [], configMaps: [] }

/** Refuses, before any call, a run that nobody could confirm. */
export function checkConfirmable({ yes, quiet, dryRun }: Settings): void {
  if (yes || dryRun || (canAsk() && !quiet)) return
  const why = quiet ? '--quiet shows nothing that one could say yes to' : 'there is no terminal to ask at'
  throw new Failure('usage', why, 'add --yes to remove without a question', exitCodes.usage)
}

/** Shows what a model left, asks, and removes it: the copies that were named, then its Jobs, then movers that nobody uses. */
export function cleanModel(session: Session): Promise<Result> {
  const { settings, story, outcome } = session
  return runStage(session, TITLE, async () => {
    const leftovers = await readIdle(session)
    const sides = sidesOf(settings)
    if (settings.dryRun) {
      const found = [...sides.map(({ address }) => address), ...describeLeftovers(leftovers)]
      story.begun(TITLE, [`of ${settings.model} would be removed:`, ...found].join('\n'))
      for (const side of sides) await rehearseRemoval(session, TITLE, side)
      await removeLeftovers(session)
      return { text: '' }
    }
    const copies: Copy[] = []
    for (const side of sides) copies.push(await lookAtCopy(session, TITLE, side))
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
    const removed: Copy[] = []
    const note = (gone: Gone) => {
      outcome.facts.removed = documentOf(removed, gone)
    }
    note(NONE)
    for (const copy of full) {
      removed.push(await removeCopy(session, TITLE, copy))
      note(NONE)
    }
    const { gone, stuck } = await removeLeftovers(session)
    note(gone)
    const told = [...removed.map(describeCopy), ...describeLeftovers(gone), ...removed.flatMap(describeLeft)]
    if (stuck.length === 0) return tell(session, [`of ${settings.model} was removed:`, ...told])
    if (told.length > 0) story.begun(TITLE, [`of ${settings.model} was removed:`, ...told].join('\n'))
    throw stillThere(session, stuck)
  })
}

/** Once: a terminal shows both streams, and the document of --json takes the place of the text. */
function tell({ story, settings }: Session, lines: readonly string[]): Result {
  const text = lines.join('\n')
  if (settings.json) story.done(TITLE, text)
  return { text }
}

/** What the cluster keeps; refuses while anything still works on the model. */
async function readIdle(session: Session): Promise<Leftovers> {
  const leftovers = await readLeftovers(session)
  refuse(session, leftovers.live)
  return leftovers
}

function describeLeftovers({ jobs, pods, configMaps }: Gone): string[] {
  const kinds = [
    [jobs, 'finished Job', 'finished Jobs'],
    [pods, 'finished pod without a Job', 'finished pods without a Job'],
    [configMaps, 'ConfigMap that no Job uses', 'ConfigMaps that no Job uses'],
  ] as const
  return kinds
    .filter(([found]) => found.length > 0)
    .map(([found, one, many]) => `${formatCount(found.length, one, many)}: ${namesOf(found).join(', ')}`)
}

async function warnOfReaders(session: Session): Promise<void> {
  const { cluster, settings, story } = session
  if (!settings.nfs) return
  const readers = await askPatiently(session, () => readersOf(cluster, settings.pvc))
  if (readers.length === 0) return
  story.warned(TITLE, `${listReaders(readers)} ${settings.pvc} mounted: the files of ${settings.model} go under them`)
}

async function confirm({ settings, story, signal, again }: Session): Promise<void> {
  if (settings.yes) return
  try {
    if (await askForYes('  Remove all this?', signal)) return
  } catch (error) {
    if (error instanceof Interrupted) error.next = `nothing was removed\nto go on: ${again}`
    throw error
  }
  story.detail('')
  throw new Failure('not-confirmed', 'not confirmed: nothing was removed', 'answer yes, or add --yes')
}

/** What went, and what did not within some seconds. Looks again, for the errands may have come and gone. */
async function removeLeftovers(session: Session): Promise<{ gone: Gone; stuck: Going[] }> {
  const { cluster } = session
  const ask = (remove: () => Promise<boolean>) => askPatiently(session, remove)
  const { jobs, pods } = await readLeftovers(session)
  // Foreground: the pods of a Job that is gone are gone.
  await Promise.all(jobs.map(({ metadata }) => ask(() => cluster.deleteJob(metadata, 'Foreground'))))
  await Promise.all(pods.map(({ metadata }) => ask(() => cluster.deleteObject('pods', metadata))))
  const stuck = await waitUntilGone(session, [...jobs, ...pods])
  // Jobs first, since they are what uses a ConfigMap, and as late as can be: a Job that starts meanwhile may use one.
  const { configMaps } = await readLeftovers(session)
  await Promise.all(configMaps.map(({ metadata }) => ask(() => cluster.deleteObject('configmaps', metadata))))
  stuck.push(...(await waitUntilGone(session, configMaps)))
  const hasGone = (one: Going) => !stuck.includes(one)
  return {
    gone: { jobs: jobs.filter(hasGone), pods: pods.filter(hasGone), configMaps: configMaps.filter(hasGone) },
    stuck,
  }
}

/** Those that are still there in the end. */
async function waitUntilGone(session: Session, going: readonly Going[]): Promise<Going[]> {
  const { settings, story, signal } = session
  if (settings.dryRun) return []
  const pace = new Pace(GONE_SECONDS, signal, story)
  for (;;) {
    const there = new Set((await readOurs(session)).map(({ metadata }) => metadata.uid))
    const stuck = going.filter(({ metadata }) => there.has(metadata.uid))
    if (stuck.length === 0 || pace.over) return stuck
    await pace.wait()
  }
}

function stillThere({ cluster, again }: Session, stuck: readonly Going[]): Failure {
  const names = stuck.map(({ kind, metadata }) => `${kind.toLowerCase()}/${metadata.name}`)
  return new Failure(
    'not-removed',
    `still there ${GONE_SECONDS} s after the deletion: ${names.join(', ')}`,
    `a finalizer or a lost node holds them: ${cluster.command('describe', ...names)}; then run again: ${again}`,
  )
}

function documentOf(copies: readonly Copy[], { jobs, pods, configMaps }: Gone): Record<string, unknown> {
  const sides = copies.map(({ kind, found }) => [
    kind === 'model-clean-nfs' ? 'nfs' : 'spaces',
    { files: found.files, bytes: found.bytes, left: found.unknown },
  ])
  return { ...Object.fromEntries(sides), jobs: namesOf(jobs), pods: namesOf(pods), configMaps: namesOf(configMaps) }
}

function namesOf(found: readonly { metadata: { name: string } }[]): string[] {
  return found.map(({ metadata }) => metadata.name)
}
