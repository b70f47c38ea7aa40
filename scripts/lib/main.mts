import { makeCommand, type OptionValue, scriptCommand, valuesOf } from './advice.mts'
import { checkKubectl } from './checks.mts'
import { exitCodes, Failure, Interrupted } from './failure.mts'
import { wantsHelp } from './flags.mts'
import { helpText, type Script } from './help.mts'
import { Kubectl } from './kubectl.mts'
import { type Option, options } from './options.mts'
import { Outcome } from './outcome.mts'
import { rehearse } from './rehearsal.mts'
import type { Result, Session } from './session.mts'
import { type Environment, readSettings, type Settings } from './settings.mts'
import { layOutResult, Story } from './story.mts'
import { terminalOf } from './terminal.mts'

const story = new Story((text) => process.stderr.write(text), terminalOf(process.stderr, process.env))
const outcome = new Outcome()

/** The frame of every entry script: help, settings, tools, signals, one catch, exit code. */
export async function main(script: Script, run: (session: Session) => Promise<Result>): Promise<void> {
  await withSettings(script, async (settings) => {
    const signal = interruption()
    const { context, namespace } = settings
    story.opened(script.name, `${script.subject(settings)}, in ${context}/${namespace}`)
    await checkKubectl()
    const session = {
      settings,
      story,
      outcome,
      kubeconfig: process.env.KUBECONFIG,
      again: commandOf(script, settings, process.argv.slice(2), process.env),
      target: targetOf(script, process.env),
      signal,
    }
    if (settings.dryRun) return rehearse(session, run)
    return run({ ...session, cluster: new Kubectl(context, namespace, signal) })
  })
}

/** The same for a script that calls nothing. */
export async function withSettings(
  script: Script,
  run: (settings: Settings, outcome: Outcome) => Promise<Result> | Result,
): Promise<void> {
  const args = process.argv.slice(2)
  // Wrong usage is told to machines too, although the settings cannot be read then.
  const json = args.includes('--json')
  let model: string | undefined
  // Each write to a closed pipe errs again; unheard, the first would end the process as a defect.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
  try {
    if (wantsHelp(args)) return await print(helpText(script))
    const settings = readSettings(script.name, script.options, args, process.env, script.named)
    model = script.options.includes('model') ? settings.model : undefined
    story.quiet = settings.quiet
    const { text, problem } = await run(settings, outcome)
    process.exitCode = problem ? exitCodes.failed : exitCodes.done
    story.clear()
    // Manifests are for kubectl, line by line.
    const shown = settings.dryRun ? text : layOutResult(text, terminalOf(process.stdout, process.env))
    await print(json ? documentOf(script, model, problem) : `${shown}\n`)
  } catch (error) {
    if (error instanceof Failure) error.next = helpAsTyped(error.next, script)
    process.exitCode = tell(error)
    if (json) await print(documentOf(script, model, error))
  }
}

/** Where the options are listed, for whoever typed make. */
function helpAsTyped(next: string, script: Script): string {
  const target = targetOf(script, process.env)
  const help = ['--help']
  return target === undefined ? next : next.replace(scriptCommand(script.name, help, []), makeCommand(target, [], help))
}

function documentOf({ name }: Script, model: string | undefined, end: unknown): string {
  return `${JSON.stringify(outcome.document(name, model, end), undefined, 2)}\n`
}

/** Writes the result; a run whose result reaches nobody has not done what it was for. */
async function print(text: string): Promise<void> {
  const error = await new Promise<NodeJS.ErrnoException | null | undefined>((resolve) =>
    process.stdout.write(text, resolve),
  )
  if (!error) return
  story.failed('', `the result could not be written: ${error.message}`)
  story.advice('what was done is done: run the same command again for its result')
  process.exitCode ||= error.code === 'EPIPE' ? exitCodes.interrupted : exitCodes.failed
}

/**
 * This run's command as it can be pasted, by make or by the script's file as this one was: what came by the environment
 * is named, for another shell has another one, and nothing is restarted once more. No setting is a secret.
 */
export function commandOf(script: Script, settings: Settings, typed: readonly string[], env: Environment): string {
  const target = targetOf(script, env)
  const args = typed.filter((arg) => arg !== '--restart' && !(target === 'plan' && arg === '--plan'))
  const named = script.options.flatMap((name): OptionValue[] => {
    const { flag, environment }: Option = options[name]
    if (args.some((arg) => arg === `--${flag}` || arg.startsWith(`--${flag}=`))) return []
    if (name !== 'model' && (environment === undefined || env[environment] === undefined)) return []
    return [[name, valuesOf(name, settings)]]
  })
  return target === undefined ? scriptCommand(script.name, args, named) : makeCommand(target, named, args)
}

/** As the Makefile says it; somebody else's variable of that name says nothing. */
function targetOf({ name, target = name }: Script, { MAKE_TARGET }: Environment): string | undefined {
  return MAKE_TARGET === target || (MAKE_TARGET === 'plan' && name === 'setup-model') ? MAKE_TARGET : undefined
}

/** Aborted by the first signal of an end or by a closed pipe; the second one ends the process as it stands. */
function interruption(): AbortSignal {
  const controller = new AbortController()
  const interrupt = (by: string) => {
    if (controller.signal.aborted) process.exit(exitCodes.interrupted)
    controller.abort(new Interrupted(by))
  }
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => interrupt(name))
  process.stderr.on('error', () => {
    // Each write to a closed pipe errs again.
    if (!controller.signal.aborted) interrupt('a closed pipe')
  })
  return controller.signal
}

/** Says what went wrong; gives the exit code. */
function tell(error: unknown): number {
  if (error instanceof Interrupted) {
    story.failed(error.stage ?? '', error.message)
    if (error.next) story.advice(error.next)
    return exitCodes.interrupted
  }
  if (error instanceof Failure) {
    story.failed(error.stage ?? '', error.message)
    story.advice(error.next)
    return error.exitCode
  }
  story.failed('', `this is a defect, please report it: ${error instanceof Error ? error.stack : String(error)}`)
  return exitCodes.failed
}
