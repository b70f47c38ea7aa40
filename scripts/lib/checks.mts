import { existsSync } from 'node:fs'
import path from 'node:path'
import { quote } from 'zx'
import { runChild } from './child.mts'
import { Failure } from './failure.mts'
import type { Kubectl, Rules, Versions } from './kubectl.mts'
import type { JobKind } from './labels.mts'
import { type JobManifest, outlineJob } from './manifest.mts'
import type { Node, PersistentVolumeClaim } from './objects.mts'
import {
  claimPermissions,
  explainingPermissions,
  jobPermissions,
  missingPermissions,
  type Permission,
  releasePermissions,
  removalPermissions,
} from './permissions.mts'
import { placementProblem } from './placement.mts'
import { parseQuantity } from './quantity.mts'
import { listReaders, readersOf } from './readers.mts'
import type { Settings } from './settings.mts'
import { decideStorage, readStorage, wantedClaim } from './storage.mts'

/** `delete --cascade=foreground`, which a dry run prints; `--dry-run=server` (1.18) and `delete --raw` (1.16) are older. */
const OLDEST_KUBECTL = 20
/** Pods bear the label batch.kubernetes.io/controller-uid, by which they are found; podFailurePolicy of Jobs (1.26) is older. */
const OLDEST_SERVER = 27

/** What a run is going to do, as far as it decides what has to be there. */
export interface Needs {
  jobs: readonly JobKind[]
  /** `bind`: the run makes the claim and frees its volume itself; `mount`: both have to be there. */
  claim: 'bind' | 'mount' | 'none'
  /** It deletes Jobs, pods and ConfigMaps for good. */
  removes?: boolean
}

export interface Finding {
  level: 'problem' | 'warning' | 'skipped'
  /** One sentence that names the object. */
  fact: string
  next: string
}

export interface Check {
  title: string
  look: () => Promise<Finding[]>
  isNamespace?: boolean
  /** What it looks at lies in the namespace. */
  inNamespace?: boolean
}

const need = path.resolve(import.meta.dirname, '../need')

/** kubectl is on PATH: without it nothing else can be looked at. All programs that are missing are named together. */
export async function checkKubectl(): Promise<void> {
  if ((await missing('kubectl')) === '') return
  throw new Failure(
    'tools',
    await missing('kubectl', 'envsubst'),
    'install what is missing, then run the same command again',
  )
}

/** A line for each program that is not on PATH, with how to get it. */
async function missing(...tools: string[]): Promise<string> {
  const { code, stderr } = await runChild([need, ...tools])
  return code === 0 ? '' : stderr.trim()
}

/** The checks that a run needs, none of them begun; what the Jobs ask for is read off their manifests. */
export async function checksFor(
  cluster: Kubectl,
  settings: Settings,
  { jobs, claim, removes }: Needs,
): Promise<Check[]> {
  const manifests = await Promise.all(jobs.map((kind) => outlineJob(kind, settings)))
  let asked: Promise<Versions> | undefined
  const versions = () => {
    asked ??= cluster.versions()
    return asked
  }
  let told: Promise<Rules> | undefined
  const rights = async (wanted: readonly Permission[]) => {
    told ??= cluster.rules()
    return permissionFindings(await told, wanted, cluster)
  }
  const permissions = [
    ...(jobs.length > 0 ? jobPermissions() : []),
    ...(removes ? removalPermissions() : []),
    ...(claim === 'none' ? [] : claimPermissions(settings.pvc, claim === 'bind')),
  ]
  return [
    { title: 'kubectl', look: async () => kubectlFindings(await versions()) },
    ...(jobs.length > 0 ? [{ title: 'envsubst', look: envsubstFindings }] : []),
    { title: 'cluster', look: async () => serverFindings(await versions(), cluster.context) },
    { title: 'namespace', isNamespace: true, look: () => namespaceFindings(cluster) },
    {
      title: 'permissions',
      inNamespace: true,
      look: () => rights(permissions),
    },
    ...(jobs.length > 0
      ? [{ title: 'events', inNamespace: true, look: async () => asSkipped(await rights(explainingPermissions())) }]
      : []),
    ...secretsOf(manifests).map(({ name, optional }) => ({
      title: `Secret ${name}`,
      inNamespace: true,
      look: async () => secretFindings(name, optional, await cluster.secretKeys(name), cluster),
    })),
    ...(claim === 'bind' ? [{ title: 'storage', look: () => storageFindings(cluster, settings, rights) }] : []),
    ...(claim === 'mount'
      ? [
          {
            title: 'storage',
            inNamespace: true,
            look: async () => claimFindings(await cluster.find('pvc', settings.pvc), settings),
          },
        ]
      : []),
    ...(jobs.includes('model-download-nfs')
      ? [
          {
            title: 'readers',
            inNamespace: true,
            look: async () => readerFindings(await readersOf(cluster, settings.pvc), settings),
          },
        ]
      : []),
    ...memoryFindings(manifests).map((finding) => ({ title: 'memory', look: async () => [finding] })),
    ...(jobs.length > 0
      ? [{ title: 'nodes', look: async () => nodeFindings(await cluster.list<Node>('nodes', ''), manifests, cluster) }]
      : []),
  ]
}

/** The mover touches all of its buffer at the start, so that its pod would be killed in its first second. */
function memoryFindings(manifests: readonly JobManifest[]): Finding[] {
  return manifests.flatMap(({ metadata, spec }) => {
    const [container] = spec.template.spec.containers
    const limit = container?.resources.limits?.memory ?? ''
    const buffer = container?.env?.find(({ name }) => name === 'BUFFER')?.value ?? ''
    if ((parseQuantity(buffer) ?? 0) < (parseQuantity(limit) ?? Number.POSITIVE_INFINITY)) return []
    const fact = `a buffer of ${buffer} does not fit into the memory of Job ${metadata.name}, at most ${limit}`
    return [{ level: 'problem', fact, next: 'lower --buffer, or raise --memory' }]
  })
}

/** What is wrong with the context, naming the ones that there are; `file`: what KUBECONFIG names, where it is set. */
export function unknownContext(context: string, contexts: readonly string[], file?: string): Failure {
  const name = /^do-[a-z0-9]+-(.+)$/.exec(context)?.[1]
  const add = name ? `log in: doctl kubernetes cluster kubeconfig save ${quote(name)}` : 'add it to the kubeconfig'
  if (file && !file.split(path.delimiter).some((one) => existsSync(one)))
    return new Failure(
      'no-context',
      `there is no kubeconfig ${file}, which KUBECONFIG names`,
      `correct KUBECONFIG, or ${add}`,
    )
  const fact = `the kubeconfig${file ? ` ${file}` : ''} has no context ${context}`
  if (contexts.length === 0)
    return new Failure(
      'no-context',
      `${fact}: it has none at all`,
      `name another kubeconfig with KUBECONFIG, or ${add}`,
    )
  const use = 'use one of these with --context (make: CONTEXT=)'
  return new Failure('no-context', `${fact}: it has ${contexts.join(', ')}`, `${use}, or ${add}`)
}

/** Whether kubectl is new enough. */
export function kubectlFindings({ clientVersion }: Versions): Finding[] {
  if (Number.parseInt(clientVersion.minor, 10) >= OLDEST_KUBECTL) return []
  return problem(
    `kubectl is ${clientVersion.gitVersion}; 1.${OLDEST_KUBECTL} is needed, for --cascade=foreground`,
    'get a newer one: https://kubernetes.io/docs/tasks/tools',
  )
}

async function envsubstFindings(): Promise<Finding[]> {
  const fact = await missing('envsubst')
  return fact === '' ? [] : problem(fact, 'install it, then run the same command again')
}

/** Whether the API server is new enough. */
export function serverFindings({ serverVersion }: Versions, context: string): Finding[] {
  if (!serverVersion || Number.parseInt(serverVersion.minor, 10) >= OLDEST_SERVER) return []
  return problem(
    `the cluster of context ${context} is ${serverVersion.gitVersion}; 1.${OLDEST_SERVER} is needed, for the labels and the podFailurePolicy of Jobs`,
    'upgrade the cluster, or name another with --context',
  )
}

async function namespaceFindings(cluster: Kubectl): Promise<Finding[]> {
  const { context, namespace } = cluster
  if (await cluster.find('namespace', namespace)) return []
  return problem(
    `there is no namespace ${namespace} in context ${context}`,
    `create it: ${cluster.command('create', 'namespace', namespace)}; or name another with --namespace`,
  )
}

/** The rights that are wanted and not listed. */
export function permissionFindings(rules: Rules, wanted: readonly Permission[], cluster: Kubectl): Finding[] {
  const { context, namespace } = cluster
  const lacking = missingPermissions(rules, wanted)
  if (lacking.length === 0) return []
  const fact = `these rights are missing in namespace ${namespace} of ${context}: ${lacking.join('; ')}`
  const next = `ask for a role that has them (what there is: ${cluster.command('auth', 'can-i', '--list')}), or use another --context or --namespace`
  // What the cluster's authorizers do not list they may grant all the same.
  return [{ level: rules.incomplete ? 'skipped' : 'problem', fact, next }]
}

const SECRET_KEYS: Record<string, readonly string[]> = {
  'spaces-credentials': ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'],
  'hf-token': ['HF_TOKEN'],
}

/** `keys` undefined: there is no such Secret. One that Jobs can do without is a warning at most. */
export function secretFindings(
  name: string,
  optional: boolean,
  keys: readonly string[] | undefined,
  cluster: Kubectl,
): Finding[] {
  const wanted = SECRET_KEYS[name] ?? []
  const lacking = wanted.filter((key) => !keys?.includes(key))
  if (lacking.length === 0) return []
  // From a file: a value on the command line would stay in the shell's history.
  const create = cluster.command('create', 'secret', 'generic', name, '--from-env-file=FILE')
  const write = `write ${wanted.map((key) => `${key}=…`).join(' and ')} into FILE, a line each, then: `
  const [fact, commands] = keys
    ? [`Secret ${name} lacks ${lacking.join(' and ')}`, `${cluster.command('delete', 'secret', name)} && ${create}`]
    : [`there is no Secret ${name} in namespace ${cluster.namespace}`, create]
  const next = `${write}${commands}`
  if (!optional) return problem(fact, next)
  return [{ level: 'warning', fact: `${fact}: fine for public models only`, next }]
}

async function storageFindings(
  cluster: Kubectl,
  settings: Settings,
  rights: (wanted: readonly Permission[]) => Promise<Finding[]>,
): Promise<Finding[]> {
  const storage = await readStorage(cluster, settings)
  const decision = decideStorage(storage, await wantedClaim(storage, settings))
  if (decision.action === 'release') return rights(releasePermissions(settings.pv))
  return decision.action === 'refuse' ? problem(decision.fact, decision.next) : []
}

/** What can be done without is not missing. */
function asSkipped(findings: readonly Finding[]): Finding[] {
  return findings.map((finding) => ({ ...finding, level: 'skipped' }))
}

/** Whether the claim can be mounted. */
export function claimFindings(claim: PersistentVolumeClaim | undefined, { pvc, namespace }: Settings): Finding[] {
  const mend = 'run make fix-pvc, or name another claim with --pvc'
  if (!claim) return problem(`there is no PVC ${pvc} in namespace ${namespace}`, mend)
  if (claim.metadata.deletionTimestamp)
    return problem(`PVC ${pvc} is being deleted and waits for the pods that use it`, `let them end, then ${mend}`)
  const phase = claim.status?.phase ?? 'Pending'
  if (phase === 'Bound') return []
  // A claim on no volume in particular may be waiting for its first pod (WaitForFirstConsumer), which is ours.
  if (phase === 'Pending' && !claim.spec.volumeName)
    return [{ level: 'warning', fact: `PVC ${pvc} is Pending; it may bind to a volume once a pod uses it`, next: mend }]
  const target = claim.spec.volumeName ? `, not Bound to PV ${claim.spec.volumeName}` : ''
  return problem(`PVC ${pvc} is ${phase}${target}`, mend)
}

function readerFindings(readers: readonly string[], { pvc, model }: Settings): Finding[] {
  if (readers.length === 0) return []
  return [
    {
      level: 'warning',
      fact: `${listReaders(readers)} ${pvc} mounted: if the commit has changed, files of ${model} change under them`,
      next: 'make plan tells whether any would',
    },
  ]
}

function nodeFindings(nodes: readonly Node[], manifests: readonly JobManifest[], cluster: Kubectl): Finding[] {
  return manifests.flatMap(({ metadata, spec }) => {
    const why = placementProblem(nodes, spec.template.spec)
    if (!why) return []
    return problem(
      `no node can ever hold a pod of Job ${metadata.name}: ${why}`,
      `add a larger node, or lower what the pod asks for (memory: --memory); the nodes there are: ${cluster.command('describe', 'nodes')}`,
    )
  })
}

function secretsOf(manifests: readonly JobManifest[]): { name: string; optional: boolean }[] {
  const found = new Map<string, boolean>()
  for (const { spec } of manifests)
    for (const { envFrom = [] } of spec.template.spec.containers)
      for (const { secretRef } of envFrom)
        if (secretRef) found.set(secretRef.name, (found.get(secretRef.name) ?? true) && (secretRef.optional ?? false))
  return [...found].map(([name, optional]) => ({ name, optional }))
}

function problem(fact: string, next: string): Finding[] {
  return [{ level: 'problem', fact, next }]
}
