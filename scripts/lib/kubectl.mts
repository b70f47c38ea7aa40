import { quote } from 'zx'
import { type ChildResult, runChild } from './child.mts'
import { Failure } from './failure.mts'
import type { Event, Metadata } from './objects.mts'

export type KubectlReason =
  | 'unreachable'
  | 'tools'
  | 'kubeconfig'
  | 'no-context'
  | 'unauthorized'
  | 'forbidden'
  | 'not-found'
  | 'conflict'
  | 'exists'
  | 'invalid'
  | 'webhook'
  | 'other'

/** A kubectl that failed, with the reason that the server or kubectl gave. */
export class KubectlError extends Failure {
  declare readonly reason: KubectlReason

  constructor(reason: KubectlReason, fact: string, next: string) {
    super(reason, fact, next)
  }
}

export interface Patch {
  op: 'test' | 'remove' | 'replace' | 'add'
  path: string
  value?: unknown
}

/** Minor versions come with a + from some providers. */
export interface Versions {
  clientVersion: { minor: string; gitVersion: string }
  serverVersion?: { minor: string; gitVersion: string }
}

/** `incomplete`: an authorizer that cannot list its rules may allow more than these. */
export interface Rules {
  resourceRules: { verbs: string[]; apiGroups?: string[]; resources?: string[]; resourceNames?: string[] }[]
  incomplete?: boolean
}

interface Item {
  metadata: Metadata
}

/** Lines that were written before we came: enough for the story of a pod that failed at once, not a night's progress. */
const BACKLOG = 20

/** kubectl waits for ever on a server that accepts and says nothing. */
const REQUEST_TIMEOUT = '--request-timeout=20s'
/** The same of the kubeconfig's login helper, which that does not bound. */
const ANSWER_SECONDS = 30
/** Of the calls that tidy up behind an interruption, for whose end somebody waits. */
const TIDY_ANSWER_SECONDS = 10

/** The one door to kubectl: every call names the context and the namespace, asks for JSON, and ends when we are interrupted. */
export class Kubectl {
  readonly context: string
  readonly namespace: string
  readonly #signal: AbortSignal | undefined
  readonly #answerSeconds: number

  constructor(context: string, namespace: string, signal?: AbortSignal, answerSeconds = ANSWER_SECONDS) {
    this.context = context
    this.namespace = namespace
    this.#signal = signal
    this.#answerSeconds = answerSeconds
  }

  /** A door for tidying up, which an interruption does not close. */
  afterInterruption(): Kubectl {
    return new Kubectl(this.context, this.namespace, undefined, TIDY_ANSWER_SECONDS)
  }

  /** A command for the user to paste. */
  command(...args: string[]): string {
    return ['kubectl', '--context', this.context, '-n', this.namespace, ...args].map((arg) => quote(arg)).join(' ')
  }

  /** The object, or undefined when the server says that there is none; every other failure is one. */
  async find<T extends Item>(kind: string, name: string): Promise<T | undefined> {
    const text = await this.#ask(['get', kind, name, '--ignore-not-found', '--output=json'])
    return text.trim() === '' ? undefined : (JSON.parse(text) as T)
  }

  /** All objects of the kinds (`jobs,pods`) that a label selector picks. */
  async list<T extends Item>(kinds: string, selector: string): Promise<T[]> {
    return (JSON.parse(await this.#ask(['get', kinds, `--selector=${selector}`, '--output=json'])) as { items: T[] })
      .items
  }

  /** What happened to one object, oldest first. */
  async events(uid: string): Promise<Event[]> {
    const fields = `--field-selector=involvedObject.uid=${uid}`
    const { items } = JSON.parse(await this.#ask(['get', 'events', fields, '--output=json'])) as { items: Event[] }
    const at = (event: Event) => Date.parse(event.lastTimestamp ?? event.eventTime ?? event.metadata.creationTimestamp)
    return items.sort((a, b) => at(a) - at(b))
  }

  /** The same, and none where this user may not look at them: they only explain. */
  async eventsIfPermitted(uid: string): Promise<Event[]> {
    try {
      return await this.events(uid)
    } catch (error) {
      if (error instanceof KubectlError && error.reason === 'forbidden') return []
      throw error
    }
  }

  /** kubectl's own version and, which is also the quickest proof that it answers, the server's. */
  async versions(): Promise<Versions> {
    return JSON.parse(await this.#ask(['version', '--output=json'])) as Versions
  }

  /** The names of the kubeconfig's contexts; the cluster is not asked. */
  async contexts(): Promise<string[]> {
    const { stdout } = await runChild(['kubectl', 'config', 'get-contexts', '--output=name'], { signal: this.#signal })
    return stdout.split('\n').filter((name) => name !== '')
  }

  /** What we may do in the namespace, as the server's authorizers tell it in one answer. */
  async rules(): Promise<Rules> {
    const review = {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SelfSubjectRulesReview',
      spec: { namespace: this.namespace },
    }
    // Validating a kind that has no patch, kubectl lists the CRDs, which a tenant of one namespace may not.
    const create = ['create', '--filename=-', '--validate=false', '--output=json']
    const text = await this.#ask(create, JSON.stringify(review))
    return (JSON.parse(text) as { status: Rules }).status
  }

  /** The keys of a Secret that hold something; undefined where there is no such Secret. kubectl keeps the values to itself. */
  async secretKeys(name: string): Promise<string[] | undefined> {
    const template = '{{range $key, $value := .data}}{{if $value}}{{$key}} {{end}}{{end}}.'
    const text = await this.#ask(['get', 'secret', name, '--ignore-not-found', `--output=go-template=${template}`])
    return text === '' ? undefined : text.slice(0, -1).split(' ').filter(Boolean)
  }

  /** The object as the server would store it; nothing is stored. */
  async tryOut<T>(manifest: object): Promise<T> {
    const args = ['create', '--filename=-', '--dry-run=server', '--output=json']
    return JSON.parse(await this.#ask(args, JSON.stringify(manifest))) as T
  }

  /** Gives the object as it was stored. Not `apply`: that takes one that is there for ours, and the right to patch it. */
  async create<T extends Item>(manifest: object): Promise<T> {
    return JSON.parse(await this.#ask(['create', '--filename=-', '--output=json'], JSON.stringify(manifest))) as T
  }

  async patch(kind: string, name: string, operations: readonly Patch[]): Promise<void> {
    await this.#ask(['patch', kind, name, '--type=json', `--patch=${JSON.stringify(operations)}`])
  }

  /** The same, with the server's checks and without the change. */
  async tryPatch(kind: string, name: string, operations: readonly Patch[]): Promise<void> {
    await this.#ask(['patch', kind, name, '--type=json', '--dry-run=server', `--patch=${JSON.stringify(operations)}`])
  }

  /**
   * Asks for the deletion of the Job that was looked at, and of no other that has got its name since.
   *
   * Foreground: the Job stays until its pods are gone, so that no old pod moves bytes beside a new one's. False when it was gone already.
   */
  deleteJob(job: Metadata, propagationPolicy: 'Foreground' | 'Background'): Promise<boolean> {
    return this.#delete('/apis/batch/v1', 'jobs', job, propagationPolicy)
  }

  /** The same of an object that has nothing below it. */
  deleteObject(kind: 'pods' | 'configmaps', object: Metadata): Promise<boolean> {
    return this.#delete('/api/v1', kind, object, 'Background')
  }

  async #delete(api: string, kind: string, { name, uid }: Metadata, propagationPolicy: string): Promise<boolean> {
    const options = { kind: 'DeleteOptions', apiVersion: 'v1', propagationPolicy, preconditions: { uid } }
    const path = `${api}/namespaces/${this.namespace}/${kind}/${name}`
    try {
      await this.#ask(['delete', `--raw=${path}`, '--filename=-'], JSON.stringify(options))
      return true
    } catch (error) {
      if (error instanceof KubectlError && (error.reason === 'not-found' || error.reason === 'conflict')) return false
      throw error
    }
  }

  /** Follows a container's log with time stamps until kubectl ends, for whatever reason; the end says nothing about the pod. */
  async followLog(
    pod: string,
    container: string,
    since: string | undefined,
    onChunk: (chunk: Buffer) => void,
    signal: AbortSignal,
  ): Promise<ChildResult> {
    const args = [
      'logs',
      pod,
      `--container=${container}`,
      '--follow',
      '--timestamps',
      since ? `--since-time=${since}` : `--tail=${BACKLOG}`,
    ]
    return await runChild(this.#argv(args), { signal, onStdout: onChunk })
  }

  #argv(args: readonly string[]): string[] {
    // A user's kuberc may give any command a flag of its own, such as delete --interactive.
    const plain = ['env', 'KUBERC=off', 'KUBECTL_KUBERC=false', 'kubectl']
    return [...plain, `--context=${this.context}`, `--namespace=${this.namespace}`, ...args]
  }

  async #ask(args: readonly string[], input?: string): Promise<string> {
    const argv = this.#argv([...args, REQUEST_TIMEOUT])
    const options = { signal: this.#signal, seconds: this.#answerSeconds, ...(input ? { input } : {}) }
    const result = await runChild(argv, options)
    if (result.code === 0) return result.stdout
    throw explain(this, args, result, this.#answerSeconds)
  }
}

const SERVER_REASONS: Record<string, KubectlReason> = {
  Unauthorized: 'unauthorized',
  Forbidden: 'forbidden',
  NotFound: 'not-found',
  Conflict: 'conflict',
  AlreadyExists: 'exists',
  Invalid: 'invalid',
  BadRequest: 'invalid',
  ServiceUnavailable: 'unreachable',
  Timeout: 'unreachable',
  ServerTimeout: 'unreachable',
  TooManyRequests: 'unreachable',
}

/** What a kubeconfig calls to log in, such as doctl. */
const MISSING_HELPER = /getting credentials: exec: executable (\S+) not found/

const UNREACHABLE =
  /Unable to connect to the server|was refused|connection re(fused|set)|no route to host|network is unreachable|no such host|i\/o timeout|TLS handshake timeout|Client\.Timeout|deadline exceeded|unexpected EOF|EOF$|http2: |server is currently unable|apiserver not ready|etcdserver/m

/** Puts kubectl's words into the reason, the object and the next step. */
export function explain(
  cluster: Kubectl,
  args: readonly string[],
  result: ChildResult,
  seconds = ANSWER_SECONDS,
): KubectlError {
  // klog lines (E1123 20:09:37 …) repeat what the last line says.
  const words = result.stderr.split('\n').filter((line) => line.trim() !== '' && !/^[EWI]\d{4} /.test(line))
  // A question for two kinds at once is refused twice.
  const said = result.late
    ? `kubectl took longer than ${seconds} s; a login helper of the kubeconfig may be waiting for somebody`
    : [...new Set(words)]
        .join(' ')
        .replace(/^(error|Error): ?/, '')
        .trim()
  const what = `kubectl ${args.filter((arg) => !arg.startsWith('-')).join(' ')}`
  const reason = result.late ? 'unreachable' : reasonOf(result.stderr)
  const { context, namespace } = cluster
  if (reason === 'tools') {
    const helper = MISSING_HELPER.exec(result.stderr)?.[1]
    return new KubectlError(
      reason,
      `${helper} is not installed, by which the kubeconfig logs in to the cluster of context ${context}`,
      `install ${helper}, then run the same command again`,
    )
  }
  if (reason === 'no-context')
    return new KubectlError(
      reason,
      `the kubeconfig has no context ${context}`,
      'kubectl config get-contexts lists them; name one with --context',
    )
  if (reason === 'kubeconfig')
    return new KubectlError(
      reason,
      `the kubeconfig cannot be read: ${said}`,
      'correct the file, or name another with KUBECONFIG',
    )
  if (reason === 'unreachable')
    return new KubectlError(
      reason,
      `the cluster of context ${context} does not answer: ${said}`,
      `check the connection with ${cluster.command('version')}`,
    )
  if (reason === 'unauthorized')
    return new KubectlError(
      reason,
      `the cluster of context ${context} does not know who we are: ${said}`,
      'log in again (for DigitalOcean: doctl kubernetes cluster kubeconfig save CLUSTER)',
    )
  if (reason === 'webhook')
    return new KubectlError(
      reason,
      `an admission webhook of the cluster of context ${context} does not answer: ${said}`,
      'look at the service that it names, then run the same command again',
    )
  if (reason === 'forbidden' && /exceeded quota|denied the request|denied request/.test(said))
    return new KubectlError(
      reason,
      said,
      'raise the quota or correct the policy that it names, or use another --context or --namespace',
    )
  if (reason === 'forbidden')
    return new KubectlError(
      reason,
      said,
      `ask for this right in namespace ${namespace} of ${context}, or use another --context or --namespace`,
    )
  const absent = /namespaces "([^"]*)" not found/.exec(said)?.[1]
  if (absent)
    return new KubectlError(
      reason,
      `there is no namespace ${absent} in context ${context}`,
      'name another with --namespace, or create it',
    )
  const ended = result.code === null ? 'was killed' : `ended with exit code ${result.code}`
  return new KubectlError(
    reason,
    `${what} ${ended}: ${said || 'it said nothing'}`,
    'correct what it names and run the same command again',
  )
}

function reasonOf(stderr: string): KubectlReason {
  const named =
    /(?:Error from server|error when \w+ing [^:]*: [^:]*?) ?\((\w+)\)/.exec(stderr)?.[1] ??
    /\((\w+)\):/.exec(stderr)?.[1]
  const reason = named ? SERVER_REASONS[named] : undefined
  if (reason) return reason
  // The server's words of a webhook that it could not reach read like those of a server that we could not reach.
  if (named === 'InternalError' && /failed calling webhook/.test(stderr)) return 'webhook'
  if (MISSING_HELPER.test(stderr)) return 'tools'
  if (/error loading config file/.test(stderr)) return 'kubeconfig'
  if (/context was not found|context "[^"]*" does not exist/.test(stderr)) return 'no-context'
  if (/\(Unauthorized\)|provide credentials/.test(stderr)) return 'unauthorized'
  if (/^The (request|\w+ "[^"]*") is invalid/m.test(stderr)) return 'invalid'
  return UNREACHABLE.test(stderr) ? 'unreachable' : 'other'
}
