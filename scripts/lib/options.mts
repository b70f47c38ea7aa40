import { modelProblem } from './model.mts'
import { parseQuantity } from './quantity.mts'

/** One setting: the same name as flag, in the environment and in the help. */
export interface Option {
  flag: string
  environment?: string
  /** What stands for the value in the help; none for a switch. */
  value?: string
  /** As the help shows it. */
  default?: string
  help: string
  repeatable?: boolean
  /** Why a value cannot be used; undefined when it can. */
  problem?: (value: string) => string | undefined
}

const dnsLabel = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/
const dnsSubdomain = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/

/** What git takes for a name: `../x` would leave its place in the Hub's addresses. */
const revision = /^(?![-/])(?!.*(\.\.|\/\/|@\{))(?!(.*\/)?\.)[^\s~^:?*[\\\p{Cc}]{1,255}(?<![/.]|\.lock)$/u
/** As k8s/mover/settings.py has it. */
const SMALLEST_BUFFER = 32 * 2 ** 20

const matches = (pattern: RegExp, what: string) => (value: string) => (pattern.test(value) ? undefined : what)
const objectName = matches(dnsSubdomain, 'an object name has lower-case letters, digits, - and . only')

function urlProblem(value: string): string | undefined {
  if (!URL.canParse(value)) return 'it is no URL (https://…)'
  const url = new URL(value)
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return 'it is neither http:// nor https://'
  if (url.username || url.password) return 'it holds credentials, which everyone who may read Jobs would see'
  if (url.search || url.hash) return 'it holds a ? or a #, behind which tokens stand'
  return undefined
}

function globProblem(value: string): string | undefined {
  if (/\s/.test(value)) return 'globs are separated by spaces: write ? for a space in a name'
  return undefined
}

function bufferProblem(value: string): string | undefined {
  if (!/^\d+(Ki|Mi|Gi|k|M|G)?$/.test(value)) return 'a buffer is written like 256Mi'
  return (parseQuantity(value) ?? 0) < SMALLEST_BUFFER ? 'the smallest that the mover can work with is 32Mi' : undefined
}

function quantityProblem(value: string): string | undefined {
  const bytes = parseQuantity(value)
  return bytes === undefined || bytes < 1 ? 'a size is written like 256Mi or 3Gi' : undefined
}

/** Every setting of the suite; each script takes the ones it has a use for. */
export const options = {
  model: {
    flag: 'model',
    environment: 'MODEL',
    value: 'ID',
    default: 'meta-llama/Llama-3.1-8B-Instruct',
    help: 'the model, as the Hub names it',
    problem: modelProblem,
  },
  revision: {
    flag: 'revision',
    environment: 'MODEL_REVISION',
    value: 'NAME',
    default: 'main',
    help: 'branch, tag or commit of the model',
    problem: matches(revision, 'it is no name of a branch, tag or commit'),
  },
  include: {
    flag: 'include',
    environment: 'MODEL_INCLUDE',
    value: 'GLOB',
    default: 'all files',
    help: 'files to stage; * crosses /',
    repeatable: true,
    problem: globProblem,
  },
  exclude: {
    flag: 'exclude',
    environment: 'MODEL_EXCLUDE',
    value: 'GLOB',
    default: 'original/*',
    help: "files to leave out, of the included ones too; '' for none; the default holds only where there are weights outside it",
    repeatable: true,
    problem: globProblem,
  },
  context: {
    flag: 'context',
    environment: 'KUBE_CONTEXT',
    value: 'NAME',
    default: 'do-nyc2-gtc-demo',
    help: 'the cluster: a context of the kubeconfig',
    problem: matches(/^(?!-)\P{Cc}+$/u, 'it is no name of a context'),
  },
  namespace: {
    flag: 'namespace',
    environment: 'NAMESPACE',
    value: 'NAME',
    default: 'dynamo-workload',
    help: 'where the Jobs, the Secrets and the claim are',
    problem: matches(dnsLabel, 'a namespace has at most 63 lower-case letters, digits and -'),
  },
  timeout: {
    flag: 'timeout',
    environment: 'MODEL_TIMEOUT',
    value: 'SECONDS',
    default: '1800',
    help: 'how long to wait for each Job; a transfer that takes longer goes on',
    problem: matches(/^[1-9][0-9]{0,6}$/, 'it has to be a whole number of seconds, 1 to 9999999'),
  },
  grace: {
    flag: 'grace',
    environment: 'MODEL_GRACE',
    value: 'SECONDS',
    default: '120',
    help: 'how long to wait for what may heal by itself: no free node, an unbound claim, a failing mount',
    problem: matches(/^[0-9]{1,7}$/, 'it has to be a whole number of seconds, 0 to 9999999'),
  },
  bucket: {
    flag: 'bucket',
    environment: 'SPACES_BUCKET',
    value: 'NAME',
    default: 'do-gtc2026-doks-demo',
    help: 'the Spaces bucket; the model goes under models/<ID>/',
    problem: matches(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'a bucket has 3 to 63 lower-case letters, digits, - and .'),
  },
  endpoint: {
    flag: 'endpoint',
    environment: 'SPACES_ENDPOINT',
    value: 'URL',
    default: 'https://atl1.digitaloceanspaces.com',
    help: "the bucket's S3 endpoint",
    problem: urlProblem,
  },
  region: {
    flag: 'region',
    environment: 'SPACES_REGION',
    value: 'NAME',
    default: 'atl1',
    help: "the bucket's region",
    problem: matches(/^[A-Za-z0-9-]{1,63}$/, 'a region has letters, digits and - only'),
  },
  hfEndpoint: {
    flag: 'hf-endpoint',
    environment: 'HF_ENDPOINT',
    value: 'URL',
    default: 'https://huggingface.co',
    help: 'the Hub, or a mirror of it',
    problem: urlProblem,
  },
  pv: {
    flag: 'pv',
    environment: 'MODEL_PV',
    value: 'NAME',
    default: 'model-nfs-pv',
    help: 'the PersistentVolume of the NFS share',
    problem: objectName,
  },
  pvc: {
    flag: 'pvc',
    environment: 'MODEL_PVC',
    value: 'NAME',
    default: 'model-nfs-pvc',
    help: 'the claim on the NFS share, which the Jobs mount',
    problem: objectName,
  },
  image: {
    flag: 'image',
    environment: 'MOVER_IMAGE',
    value: 'IMAGE',
    default: 'python:3.11-slim',
    help: 'the image of the Jobs, with Python 3.11',
    problem: matches(/^[A-Za-z0-9][A-Za-z0-9._:/@-]*$/, 'it is no image reference'),
  },
  memory: {
    flag: 'memory',
    environment: 'MOVER_MEMORY',
    value: 'SIZE',
    default: "the manifest's",
    help: 'memory limit of the pods',
    problem: quantityProblem,
  },
  buffer: {
    flag: 'buffer',
    environment: 'MOVER_BUFFER',
    value: 'SIZE',
    default: '256Mi',
    help: 'how many bytes the mover keeps in memory',
    problem: bufferProblem,
  },
  pipIndexUrl: {
    flag: 'pip-index-url',
    environment: 'MOVER_PIP_INDEX_URL',
    value: 'URL',
    default: "pip's own",
    help: 'package index for the pods, without credentials',
    problem: urlProblem,
  },
  level: {
    flag: 'level',
    environment: 'VERIFY_LEVEL',
    value: 'LEVEL',
    default: 'sizes',
    help: 'what is held against the evidence: names, sizes or hashes',
    problem: matches(/^(names|sizes|hashes)$/, 'it has to be names, sizes or hashes'),
  },
  spaces: {
    flag: 'spaces',
    help: 'look at the copy in Spaces instead of the one on the volume',
  },
  nfs: {
    flag: 'nfs',
    help: 'remove the copy on the NFS volume',
  },
  yes: {
    flag: 'yes',
    help: 'remove without a question',
  },
  repair: {
    flag: 'repair',
    help: 'trust nothing: hash every file that is there, and move again those that are wrong',
  },
  dryRun: {
    flag: 'dry-run',
    help: 'say what would be done and print the manifests, change nothing',
  },
  plan: {
    flag: 'plan',
    help: 'ask the cluster what would move and how long it takes, move nothing',
  },
  json: {
    flag: 'json',
    help: 'the result as one JSON document on stdout, on failure too',
  },
  quiet: {
    flag: 'quiet',
    help: 'of the story, tell failures only; the result still goes to stdout',
  },
  restart: {
    flag: 'restart',
    help: 'replace a running Job of this model instead of joining it',
  },
} as const satisfies Record<string, Option>

/** What every script takes. */
export const commonOptions = ['json', 'quiet'] as const

export type OptionName = keyof typeof options

/** What both hops take. */
export const transferOptions = [
  'model',
  'revision',
  'include',
  'exclude',
  'context',
  'namespace',
  'timeout',
  'grace',
  'bucket',
  'endpoint',
  'region',
  'image',
  'memory',
  'buffer',
  'pipIndexUrl',
  'restart',
] as const satisfies readonly OptionName[]

/** What each script takes that others name in their advice. */
export const scriptOptions = {
  'setup-model': [...transferOptions, 'hfEndpoint', 'pv', 'pvc', 'level', 'dryRun', 'plan'],
  'model-to-spaces': [...transferOptions, 'repair', 'hfEndpoint', 'dryRun'],
  'model-to-nfs': [...transferOptions, 'repair', 'pvc', 'dryRun'],
  'fix-pvc': ['pv', 'pvc', 'context', 'namespace', 'grace', 'dryRun'],
  verify: [...transferOptions, 'hfEndpoint', 'pv', 'pvc', 'level', 'spaces', 'repair', 'dryRun'],
} as const satisfies Record<string, readonly OptionName[]>
