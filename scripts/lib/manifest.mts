import { createHash, randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { parse } from 'yaml'
import { runChild } from './child.mts'
import { Failure } from './failure.mts'
import { annotation, CONTAINER, type JobKind, jobName, PART_OF } from './labels.mts'
import { slugOf } from './model.mts'
import type { Container, EnvVar, Job, JobSpec, PersistentVolumeClaim, Volume } from './objects.mts'
import { options } from './options.mts'
import { canonicalQuantity, parseQuantity } from './quantity.mts'
import type { Settings } from './settings.mts'

export interface JobManifest {
  apiVersion: string
  kind: 'Job'
  metadata: { name: string; namespace: string; labels: Record<string, string>; annotations: Record<string, string> }
  spec: JobSpec
}

export interface ClaimManifest {
  apiVersion: string
  kind: 'PersistentVolumeClaim'
  metadata: { name: string; namespace: string }
  spec: PersistentVolumeClaim['spec'] & { resources: { requests: { storage: string } } }
}

export interface ConfigMapManifest {
  apiVersion: 'v1'
  kind: 'ConfigMap'
  metadata: { name: string; namespace: string; labels: Record<string, string> }
  immutable: true
  data: Record<string, string>
}

/** The volume that holds the program. */
const MOVER = 'mover'
const k8s = path.resolve(import.meta.dirname, '../../k8s')

/** Variables of the container that come from the run and not from its settings. */
export type Variables = Readonly<Record<string, string>>

/** The manifest as the by-hand flow renders it, then the settings as edits of the parsed document. */
export async function renderJob(
  kind: JobKind,
  settings: Settings,
  mover: string,
  variables: Variables = {},
): Promise<JobManifest> {
  const job = parseManifest(await substitute(await readJob(kind), settings.model)) as JobManifest
  editJob(job, kind, settings, mover, variables)
  job.metadata.annotations[annotation.run] = randomUUID()
  return job
}

/** The Job as far as checks look at it, which have to be able to say that envsubst is missing: name, resources, Secrets. */
export async function outlineJob(kind: JobKind, settings: Settings): Promise<JobManifest> {
  const job = parseManifest(await readJob(kind)) as JobManifest
  job.metadata.name = jobName(kind, settings.model)
  editJob(job, kind, settings, 'model-mover', {})
  return job
}

/** The claim, its request cut to the volume's capacity where that is known: a larger one would never bind. */
export async function renderClaim(settings: Settings, capacity: string | undefined): Promise<ClaimManifest> {
  const claim = parseManifest(await readFile(path.join(k8s, 'storage/model-nfs-pvc.yaml'), 'utf8')) as ClaimManifest
  claim.metadata.name = settings.pvc
  claim.metadata.namespace = settings.namespace
  claim.spec.volumeName = settings.pv
  const { requests } = claim.spec.resources
  if (capacity !== undefined && (parseQuantity(capacity) ?? 0) < (parseQuantity(requests.storage) ?? 0))
    requests.storage = capacity
  return claim
}

/** The mover's real files under a name made from their content, so that a new checkout never changes a running Job's retries. */
export async function renderMover(namespace: string): Promise<ConfigMapManifest> {
  const folder = path.join(k8s, 'mover')
  const names = (await readdir(folder)).filter((name) => name.endsWith('.py') || name === 'requirements.txt').sort()
  const data: Record<string, string> = {}
  for (const name of names) data[name] = await readFile(path.join(folder, name), 'utf8')
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: {
      name: `model-mover-${hashOf(data)}`,
      namespace,
      labels: { 'app.kubernetes.io/name': 'model-mover', 'app.kubernetes.io/part-of': PART_OF },
    },
    immutable: true,
    data,
  }
}

/**
 * What decides the outcome of a Job, read off its pod template: image, limits, claim and environment.
 *
 * The mover's version is no part of it: a running Job is joined from a newer checkout too.
 */
export function settingsOf(spec: JobSpec): Record<string, string> {
  const { containers, volumes = [] } = spec.template.spec
  const mover = containers.find((container) => container.name === CONTAINER)
  const found: Record<string, string> = {}
  for (const { name, value, valueFrom } of mover?.env ?? []) if (!valueFrom) found[name] = value ?? ''
  if (mover) found.image = mover.image
  if (mover?.resources.limits?.memory) found.memory = canonicalQuantity(mover.resources.limits.memory)
  for (const { persistentVolumeClaim: claim } of volumes) if (claim) found.claim = claim.claimName
  return Object.fromEntries(Object.entries(found).sort(([a], [b]) => (a < b ? -1 : 1)))
}

/**
 * What a Job was asked for, as it notes itself: the server writes quantities in its own way, and an admission webhook
 * may have put another image or more variables in. A Job that was started by hand has no more than its template.
 */
export function askedOf({ metadata, spec }: Job): Record<string, string> {
  const noted = metadata.annotations?.[annotation.settings]
  return noted ? JSON.parse(noted) : settingsOf(spec)
}

/** Ten hex digits of the SHA-256 of some texts by name. */
export function hashOf(texts: Record<string, string>): string {
  const sorted = Object.entries(texts).sort(([a], [b]) => (a < b ? -1 : 1))
  return createHash('sha256').update(JSON.stringify(sorted)).digest('hex').slice(0, 10)
}

function readJob(kind: JobKind): Promise<string> {
  return readFile(path.join(k8s, 'jobs', `${kind}.yaml`), 'utf8')
}

/** envsubst with an explicit list of names; it would make an empty string of a variable that is not there. */
async function substitute(text: string, model: string): Promise<string> {
  const values = { MODEL: model, MODEL_SLUG: slugOf(model) }
  for (const [name, value] of Object.entries(values)) if (value === '') throw new Error(`${name} is empty`)
  const assignments = Object.entries(values).map(([name, value]) => `${name}=${value}`)
  const names = Object.keys(values).map((name) => `\${${name}}`)
  const argv = ['env', ...assignments, 'envsubst', names.join(' ')]
  const { code, stdout, stderr } = await runChild(argv, { input: text })
  if (code !== 0)
    throw new Failure('tools', `envsubst failed: ${stderr.trim()}`, 'check that gettext is installed whole')
  return stdout
}

/** Without the sharing that YAML's aliases leave behind: an edit of one place must not show in another. */
function parseManifest(text: string): unknown {
  return JSON.parse(JSON.stringify(parse(text)))
}

function editJob(job: JobManifest, kind: JobKind, settings: Settings, mover: string, variables: Variables): void {
  const pod = job.spec.template.spec
  const [container] = pod.containers
  if (!container) throw new Error(`${kind}.yaml has no container`)
  job.metadata.namespace = settings.namespace
  container.image = settings.image
  if (settings.memory) limitMemory(container, settings.memory)
  for (const [name, value] of Object.entries({ ...variablesOf(kind, settings), ...variables }))
    setVariable(container, name, value)
  pod.volumes = (pod.volumes ?? []).map((volume) => (volume.name === MOVER ? moverVolume(mover) : volume))
  for (const { persistentVolumeClaim: claim } of pod.volumes) if (claim) claim.claimName = settings.pvc
  noteSettings(job)
}

/** The scripts' own mover is whole: kubectl create, unlike apply, keeps no copy of it in an annotation. */
function moverVolume(mover: string): Volume {
  return { name: MOVER, configMap: { name: mover } }
}

/** Takes the claim out of a Job that can do without it. */
export function withoutClaim(job: JobManifest): void {
  const pod = job.spec.template.spec
  const claims = pod.volumes?.filter((volume) => volume.persistentVolumeClaim).map(({ name }) => name) ?? []
  pod.volumes = pod.volumes?.filter(({ name }) => !claims.includes(name)) ?? []
  for (const container of pod.containers)
    container.volumeMounts = container.volumeMounts?.filter(({ name }) => !claims.includes(name)) ?? []
  noteSettings(job)
}

function noteSettings({ metadata, spec }: JobManifest): void {
  const settings = settingsOf(spec)
  metadata.annotations[annotation.settings] = JSON.stringify(settings)
  metadata.annotations[annotation.settingsHash] = hashOf(settings)
}

/** What a Job of this kind reads beside the model; a variable that is not named keeps the manifest's or the mover's default. */
function variablesOf(kind: JobKind, settings: Settings): Record<string, string> {
  if (kind === 'model-clean-nfs') return {}
  // The default is no wish: what stands there may well have been staged under another name.
  const wished = settings.revision === options.revision.default ? {} : { REVISION: settings.revision }
  if (kind === 'model-verify-nfs') return { LEVEL: settings.level, ...wished }
  const spaces = {
    BUCKET: settings.bucket,
    ENDPOINT: settings.endpoint,
    AWS_DEFAULT_REGION: settings.region,
    ...(settings.pipIndexUrl ? { PIP_INDEX_URL: settings.pipIndexUrl } : {}),
  }
  if (kind === 'model-clean-spaces') return spaces
  if (kind === 'model-verify-spaces') return { ...spaces, BUFFER: settings.buffer, LEVEL: settings.level, ...wished }
  const both = {
    ...spaces,
    BUFFER: settings.buffer,
    REVISION: settings.revision,
    ...(settings.include.length > 0 ? { INCLUDE: settings.include.join(' ') } : {}),
    ...(settings.exclude ? { EXCLUDE: settings.exclude.join(' ') } : {}),
    ...(settings.repair && kind !== 'model-plan' ? { REPAIR: 'true' } : {}),
  }
  return kind === 'model-download-nfs' ? both : { ...both, HF_ENDPOINT: settings.hfEndpoint }
}

/** Kubernetes replaces `$(NAME)` in a value, by a Secret's content too; `$$` is its way to write a `$`. */
function setVariable(container: Container, name: string, value: string): void {
  const variable: EnvVar = { name, value: value.replaceAll('$', '$$$$') }
  const env = container.env ?? []
  const at = env.findIndex((entry) => entry.name === name)
  if (at >= 0) env[at] = variable
  else env.push(variable)
  container.env = env
}

/** A request above its limit is refused by the server. */
function limitMemory({ resources }: Container, limit: string): void {
  resources.limits = { ...resources.limits, memory: limit }
  const requested = resources.requests?.memory
  if (requested && (parseQuantity(requested) ?? 0) > (parseQuantity(limit) ?? 0))
    resources.requests = { ...resources.requests, memory: limit }
}
