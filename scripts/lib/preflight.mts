import { withSettingsNamed } from './advice.mts'
import { type Check, checksFor, type Finding, type Needs, unknownContext } from './checks.mts'
import { throwIfInterrupted } from './child.mts'
import { Failure, Interrupted } from './failure.mts'
import { Kubectl, KubectlError, type KubectlReason } from './kubectl.mts'
import type { Session } from './session.mts'
import { runStage } from './stages.mts'

const TITLE = 'preflight'
/** What is said once and not by every check. */
const NO_CLUSTER: readonly KubectlReason[] = ['unreachable', 'kubeconfig', 'no-context', 'unauthorized']

/** Looks, side by side and before the first change, at all that a run relies on; throws one Failure with every problem. */
export function preflight(session: Session, needs: Needs): Promise<void> {
  return runStage(session, TITLE, async () => {
    const { settings, story, signal } = session
    const began = performance.now()
    const enough = new AbortController()
    const cluster = new Kubectl(settings.context, settings.namespace, AbortSignal.any([signal, enough.signal]))
    const checks = await checksFor(cluster, settings, needs)
    const reports = await Promise.all(checks.map((check) => report(check, enough)))
    throwIfInterrupted(signal)
    const down = reports.find(({ down }) => down)?.down
    if (down?.reason === 'unreachable' && settings.dryRun) {
      story.warned(TITLE, `${down.message}: no check was made`)
      return
    }
    if (down)
      throw down.reason === 'no-context'
        ? unknownContext(settings.context, await contextsOf(session), session.kubeconfig)
        : down

    const findings = relevant(reports).map((one) => ({ ...one, next: withSettingsNamed(one.next, session) }))
    const problems = findings.filter(({ level }) => level === 'problem')
    if (problems.length > 0) throw failureOf(problems, session.again)
    const skipped = findings.filter(({ level }) => level === 'skipped').map(({ title }) => title)
    const seconds = ((performance.now() - began) / 1000).toFixed(1)
    const looked = checks.length - skipped.length
    story.done(
      TITLE,
      `${looked} checks in ${seconds} s${skipped.length > 0 ? `; not permitted, skipped: ${skipped.join(', ')}` : ''}`,
    )
    for (const { level, fact, next } of findings) {
      if (level !== 'warning') continue
      story.warned(TITLE, fact)
      story.detail(next)
    }
  })
}

interface Titled extends Finding {
  title: string
}

interface Report {
  check: Check
  findings: Titled[]
  /** No answer at all: whatever else was asked is not worth waiting for. */
  down?: KubectlError
}

async function report(check: Check, enough: AbortController): Promise<Report> {
  const { title } = check
  try {
    return { check, findings: (await check.look()).map((finding) => ({ title, ...finding })) }
  } catch (error) {
    // Whoever has stopped us is told by the caller.
    if (error instanceof Interrupted) return { check, findings: [] }
    if (!(error instanceof KubectlError)) throw error
    const { reason, message: fact, next } = error
    if (reason === 'forbidden') return { check, findings: [{ title, level: 'skipped', fact, next }] }
    if (NO_CLUSTER.includes(reason)) {
      enough.abort(new Interrupted('a cluster that does not answer'))
      return { check, findings: [], down: error }
    }
    return { check, findings: [{ title, level: 'problem', fact, next }] }
  }
}

/** In a namespace that is not there nothing else is either: that is one problem and not five. */
function relevant(reports: readonly Report[]): Titled[] {
  const homeless = reports.some(
    ({ check, findings }) => check.isNamespace && findings.some(({ level }) => level === 'problem'),
  )
  return reports.filter(({ check }) => !(homeless && check.inNamespace)).flatMap(({ findings }) => findings)
}

function contextsOf({ settings, signal }: Session): Promise<string[]> {
  return new Kubectl(settings.context, settings.namespace, signal).contexts()
}

function failureOf(problems: readonly Titled[], again: string): Failure {
  const [only] = problems
  if (only && problems.length === 1) return new Failure('preflight', only.fact, only.next)
  const lines = problems.flatMap(({ fact, next }) => [`- ${fact}`, `  ${next}`])
  const fact = [`${problems.length} problems, nothing was changed`, ...lines].join('\n')
  return new Failure('preflight', fact, `then run the same command again: ${again}`)
}
