import { mkdir, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Container, Pod } from './objects.mts'
import { expand } from './pod-environment.mts'
import { globalise, localise, type Mount, mountsOf } from './pod-volumes.mts'
import { isExecutable } from './process.mts'

/** A container as a local process: the manifest's own command and variables, with its paths as they are on this machine. */
export interface Launch {
  argv: string[]
  env: Record<string, string>
  cwd: string
  mounts: Mount[]
  terminationLog: string
  /** Set: the command cannot be started, in the container runtime's words. */
  fault?: string
}

export interface LaunchOptions {
  /** The pod's own folder. */
  root: string
  /** The local folders of the pod's volumes by name. */
  volumes: Map<string, string>
  /** The variables of the manifest, see environmentOf. */
  variables: Record<string, string>
  /** The folder put first in PATH. */
  python: string
}

/** Kubernetes cuts a termination message here. */
const MESSAGE_LIMIT = 4096
const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
/** What the images run when the manifest names no command; both have no entry point. */
const DEFAULT_COMMAND: Record<string, string> = { python: 'python3', busybox: 'sh' }

export async function prepareLaunch(pod: Pod, container: Container, options: LaunchOptions): Promise<Launch> {
  const { root, volumes, variables, python } = options
  const terminationLog = join(root, 'termination', container.name)
  await writeFile(terminationLog, '')
  const mounts = mountsOf(container, volumes, terminationLog)
  const basic = {
    PATH: `${python}:${SYSTEM_PATH}`,
    HOME: join(root, 'home'),
    TMPDIR: join(root, 'tmp'),
    HOSTNAME: String(pod.spec.hostname ?? pod.metadata.name),
    LANG: 'C.UTF-8',
  }
  const env: Record<string, string> = { ...basic, ...variables }
  for (const [key, value] of Object.entries(env)) env[key] = localise(value, mounts)
  const words = [...(container.command ?? []), ...(container.args ?? [])].map((word) => expand(word, variables))
  const [command = DEFAULT_COMMAND[container.image.split(':')[0] ?? ''] ?? 'sh', ...args] = words
  const argv = [command, ...args].map((word) => localise(word, mounts))
  const cwd = await workingFolder(container, root, mounts)
  const missing = !isExecutable(argv[0] ?? '', env.PATH ?? '')
  return { argv, env, cwd, mounts, terminationLog, ...(missing && { fault: startError(command) }) }
}

/** What the container left in its termination log, with its own names for paths. */
export async function terminationMessage({ terminationLog, mounts }: Launch): Promise<string> {
  const file = await open(terminationLog)
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MESSAGE_LIMIT), 0, MESSAGE_LIMIT, 0)
    return globalise(buffer.subarray(0, bytesRead).toString(), mounts)
  } finally {
    await file.close()
  }
}

async function workingFolder({ workingDir }: Container, root: string, mounts: Mount[]): Promise<string> {
  const rootfs = join(root, 'rootfs')
  if (!workingDir) return rootfs
  const mounted = localise(workingDir, mounts)
  const folder = mounted === workingDir ? join(rootfs, workingDir) : mounted
  await mkdir(folder, { recursive: true })
  return folder
}

function startError(command: string): string {
  const stat = command.includes('/')
    ? `stat ${command}: no such file or directory`
    : 'executable file not found in $PATH'
  return `failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "${command}": ${stat}: unknown`
}
