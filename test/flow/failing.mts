import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import type { Running } from '../local/command.mts'
import { gate } from '../local/faults.mts'
import type { HubRequest } from '../local/hub.mts'
import type { World } from '../local/world.mts'

/** What a user may have to wait for a message once the API shows its cause. */
export const SOON_MS = 10_000

/** A run that is about to fail, or to be hindered: what the API shows, and when it is told. */
export interface Expected {
  running: Running
  /** Whether the API shows the state. */
  visible: () => Promise<boolean>
  /** The line that tells of it. */
  says: RegExp
}

/** A pod as far as tests look at it. */
export interface SeenPod {
  metadata: { name: string; deletionTimestamp?: string }
  spec: { nodeName?: string }
  status: {
    phase?: string
    reason?: string
    conditions?: { type: string; status: string; message?: string }[]
    containerStatuses?: {
      state: { waiting?: { reason?: string }; running?: unknown; terminated?: { exitCode: number; reason?: string } }
    }[]
  }
}

/** The pods of a Job, by its name. */
export function podsOf(world: World, job: string): Promise<SeenPod[]> {
  return world.list<SeenPod>('pods', { labels: `job-name=${job}` })
}

/** What the events of a kind say of a Job or its pods, by the name that they all begin with. */
export async function eventsOf(world: World, reason: string, job: string): Promise<string[]> {
  const fields = `reason=${reason}`
  const events = await world.list<{ involvedObject: { name: string }; message: string }>('events', { fields })
  return events.filter(({ involvedObject }) => involvedObject.name.startsWith(job)).map(({ message }) => message)
}

export const idOf = (name: string) => `acme/${name}`
export const jobOf = (name: string, hop = 'upload-spaces') => `model-${hop}-acme--${name}`

/** Runs of hop 1 with --json, a small model each, by the last part of the model's name. */
export class Uploads {
  readonly #world: World
  readonly #gates = new Map<string, ReturnType<typeof gate<HubRequest>>>()

  constructor(world: World) {
    this.#world = world
  }

  start(name: string, args: string[] = [], env: Record<string, string> = {}): Running {
    return this.#world.start('model-to-spaces', ['--model', idOf(name), '--json', ...args], { env })
  }

  /** Starts a run whose mover stands still at its first file until `open`. */
  async startHeld(name: string, args: string[] = []): Promise<{ running: Running; pod: SeenPod }> {
    const held = gate<HubRequest>()
    this.#world.hub.faults.add({ match: ({ path }) => path.includes(`${idOf(name)}/resolve/`), act: held.act })
    this.#gates.set(name, held)
    const running = this.start(name, args)
    await held.arrived
    return { running, pod: await podOnce(this.#world, jobOf(name), isRunning) }
  }

  /** Lets the mover go on; without a name all of them. */
  open(name?: string): void {
    for (const [held, { open }] of this.#gates) if (!name || held === name) open()
  }

  pods(name: string): Promise<SeenPod[]> {
    return podsOf(this.#world, jobOf(name))
  }

  async patchJob(name: string, spec: object): Promise<void> {
    await this.#world.kubectl(['patch', 'job', jobOf(name), '--type=merge', `--patch=${JSON.stringify({ spec })}`])
  }

  /** Whether the cluster has refused to make the Job's pods, by its events. */
  async isRefused(name: string): Promise<boolean> {
    return (await eventsOf(this.#world, 'FailedCreate', jobOf(name))).length > 0
  }

  /** Whether the API shows that a pod of the run has ended badly; the Job's own end comes behind it. */
  async podHasFailed(name: string): Promise<boolean> {
    return (await this.pods(name)).some(hasFailed)
  }

  /** Whether the Job is there and not being deleted. */
  async isThere(name: string): Promise<boolean> {
    const job = await this.#world.object('job', jobOf(name))
    return job !== undefined && job.metadata.deletionTimestamp === undefined
  }

  async hasFailed(name: string): Promise<boolean> {
    const job = await this.#world.object('job', jobOf(name))
    return job?.status.conditions?.some(({ type, status }) => type === 'Failed' && status === 'True') ?? false
  }
}

/** Waits until something is so; the test's own timeout is the limit. */
export async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await sleep(200)
}

/** Waits for a pod of the Job that is as wanted, and gives it. */
export async function podOnce(world: World, job: string, wanted: (pod: SeenPod) => boolean): Promise<SeenPod> {
  let found: SeenPod | undefined
  await until(async () => {
    found = (await podsOf(world, job)).find(wanted)
    return found !== undefined
  })
  return found as SeenPod
}

export function hasFailed({ status }: SeenPod): boolean {
  const ended = status.containerStatuses?.[0]?.state.terminated
  return status.phase === 'Failed' || (ended !== undefined && ended.exitCode !== 0)
}

export function isRunning({ status }: SeenPod): boolean {
  return status.containerStatuses?.[0]?.state.running !== undefined
}

/** Demands that a state is told within seconds after the API shows it. */
export async function expectSaidSoon({ running, visible, says }: Expected): Promise<void> {
  const said = running.says(says).then(() => Date.now())
  const shown = until(visible).then(() => Date.now())
  expect((await said) - (await shown), 'milliseconds from the state to the message').toBeLessThan(SOON_MS)
}

/** The same of a state that the API shows so many seconds from now on, as nothing happens until then. */
export async function expectSaidAfter(running: Running, seconds: number, says: RegExp): Promise<void> {
  const began = Date.now()
  await running.says(says)
  expect(Date.now() - began, 'milliseconds from now to the message').toBeLessThan(seconds * 1000 + SOON_MS)
}

/** Demands the end of a run: its exit code, its last two lines, and the cause in its JSON document. */
export async function expectEnd(
  running: Running,
  { code, cause, last }: { code: number; cause: string; last: [cause: RegExp, next: RegExp] },
): Promise<string> {
  const done = await running.outcome
  expect(done, done.stderr).toMatchObject({ code })
  const [fact = '', next = ''] = done.stderr.trimEnd().split('\n').slice(-2)
  expect(fact).toMatch(/^✗ /)
  expect(fact).toMatch(last[0])
  expect(next).toMatch(last[1])
  expect(JSON.parse(done.stdout)).toMatchObject({ state: code === 124 ? 'timeout' : 'failed', cause })
  return done.stderr
}

export function waitsFor(...reasons: string[]): (pod: SeenPod) => boolean {
  return ({ status }) => reasons.includes(status.containerStatuses?.[0]?.state.waiting?.reason ?? '')
}

export function isUnscheduled(pod: SeenPod): boolean {
  return (pod.status.conditions ?? []).some(
    ({ type, status, message }) => type === 'PodScheduled' && status === 'False' && message,
  )
}

/** Runs, as far as anybody knows, on a node that is silent. */
export function isUnready(pod: SeenPod): boolean {
  const conditions = pod.status.conditions ?? []
  return isRunning(pod) && conditions.some(({ type, status }) => type === 'Ready' && status === 'False')
}

/** A claim that no volume can be bound to. */
export function claimOfNobody(name: string): unknown {
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name },
    spec: {
      accessModes: ['ReadWriteMany'],
      resources: { requests: { storage: '1Gi' } },
      storageClassName: 'no-such-class',
    },
  }
}
