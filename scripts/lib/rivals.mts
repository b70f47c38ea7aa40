import { Failure } from './failure.mts'
import { leftoversOf, OURS } from './leftovers.mts'
import { Pace, timeoutFailure } from './pace.mts'
import type { Session } from './session.mts'
import type { Work } from './work.mts'

/**
 * Refuses to work on the model beside a rival: a transfer and a removal would undo each other's work, and both say ✓.
 *
 * Each side looks before it creates its Job and once more when that is there: of two that start in the same moment,
 * at least one then sees the other. A removal has no pod before that second look; a transfer whose pod was quicker
 * than its own look removes nothing, and a removal finds what it wrote.
 */
export async function refuseBeside(session: Session, isRival: (work: Work) => boolean): Promise<void> {
  const { cluster, settings, story, signal } = session
  const look = () => cluster.list<Work>('jobs,pods', OURS)
  const pace = new Pace(settings.timeout, signal, story)
  const found = await pace.look(look, () =>
    timeoutFailure('whether anything else works on the model is not known', `try again: ${session.again}`),
  )
  refuse(session, leftoversOf(found, settings.model).live.filter(isRival))
}

/** Refuses where anything of this is left. */
export function refuse({ cluster, settings, again }: Session, live: readonly Work[]): void {
  if (live.length === 0) return
  const names = live.map(({ kind, metadata }) => (kind === 'Job' ? `Job ${metadata.name}` : `pod ${metadata.name}`))
  const objects = live.map(({ kind, metadata }) => `${kind.toLowerCase()}/${metadata.name}`)
  throw new Failure(
    'busy',
    `${names.join(' and ')} of ${settings.model} ${live.length === 1 ? 'is' : 'are'} still running`,
    `wait for the end, or delete what runs: ${cluster.command('delete', ...objects)}; then run the same command again: ${again}`,
  )
}
