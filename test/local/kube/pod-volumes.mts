import { mkdir, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { configMaps, persistentVolumeClaims, persistentVolumes, secrets } from './kinds.mts'
import type {
  ConfigMap,
  Container,
  KeysToFiles,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  Secret,
  Volume,
} from './objects.mts'
import type { Store } from './store.mts'

/** A volume that cannot be mounted yet, in the kubelet's words. */
export class MountError extends Error {}

/** A path in the container and the local path that stands in for it. */
export interface Mount {
  mountPath: string
  local: string
}

/** Makes each volume of the pod a local folder. Returns the folders by the volumes' names. */
export async function materialise(
  store: Store,
  pod: Pod,
  root: string,
  nfsFolder: (name: string) => string,
): Promise<Map<string, string>> {
  const folders = new Map<string, string>()
  for (const volume of pod.spec.volumes ?? []) {
    const bound = volume.persistentVolumeClaim && boundVolume(store, pod, volume.persistentVolumeClaim.claimName)
    const name = bound?.metadata.name ?? volume.name
    try {
      const folder = bound ? nfsFolder(name) : join(root, 'volumes', name)
      const hostPath = bound ? bound.spec.hostPath : volume.hostPath
      const keys = keysOf(store, pod, volume)
      if (keys) await writeKeys(folder, keys, volume.configMap ?? volume.secret ?? volume.projected ?? {})
      else await makeFolder(hostPath?.path ?? folder, hostPath?.type)
      folders.set(volume.name, hostPath?.path ?? folder)
    } catch (error) {
      if (!(error instanceof MountError)) throw error
      throw new MountError(`MountVolume.SetUp failed for volume "${name}" : ${error.message}`)
    }
  }
  return folders
}

/** What a ConfigMap or Secret volume holds; undefined for other volumes. */
function keysOf(store: Store, { metadata: { namespace } }: Pod, volume: Volume): Map<string, Buffer> | undefined {
  const decoded = (data: Record<string, string> | undefined, encoding: BufferEncoding) =>
    Object.entries(data ?? {}).map(([key, value]): [string, Buffer] => [key, Buffer.from(value, encoding)])
  const keysOfMap = ({ name, optional }: NonNullable<Volume['configMap']>) => {
    const map = store.get<ConfigMap>(configMaps, namespace, name)
    if (!map && !optional) throw new MountError(`configmap "${name}" not found`)
    return [...decoded(map?.data, 'utf8'), ...decoded(map?.binaryData, 'base64')]
  }
  if (volume.configMap) return new Map(keysOfMap(volume.configMap))
  if (volume.projected)
    return new Map(volume.projected.sources.flatMap(({ configMap }) => (configMap ? keysOfMap(configMap) : [])))
  if (volume.secret) {
    const { secretName, optional } = volume.secret
    const secret = store.get<Secret>(secrets, namespace, secretName)
    if (!secret && !optional) throw new MountError(`secret "${secretName}" not found`)
    return new Map(decoded(secret?.data, 'base64'))
  }
  return undefined
}

/** A hostPath of the type Directory must be there already; anything else is made. */
async function makeFolder(path: string, type: string | undefined): Promise<void> {
  const there = await stat(path).then(
    (found) => found.isDirectory(),
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false
      throw error
    },
  )
  if (type === 'Directory' && !there) throw new MountError(`hostPath type check failed: ${path} is not a directory`)
  await mkdir(path, { recursive: true })
}

function boundVolume(store: Store, { metadata: { namespace } }: Pod, name: string): PersistentVolume {
  const claim = store.get<PersistentVolumeClaim>(persistentVolumeClaims, namespace, name)
  const volume = store.get<PersistentVolume>(persistentVolumes, undefined, claim?.spec.volumeName ?? '')
  if (!claim || !volume) throw new MountError(`persistentvolumeclaim "${name}" not found`)
  return volume
}

/**
 * Writes keys as the kubelet does: files in a dated folder, `..data` pointing to that, each name a link through it.
 * A program that resolves links or lists hidden names sees here what it sees in a cluster.
 */
async function writeKeys(
  folder: string,
  keys: Map<string, Buffer>,
  { items, defaultMode = 0o644, optional }: KeysToFiles,
): Promise<void> {
  await rm(folder, { recursive: true, force: true })
  const dated = `..${new Date().toISOString().slice(0, 19).replaceAll('-', '_').replace('T', '_').replaceAll(':', '_')}.0`
  const chosen = items ?? [...keys.keys()].map((key) => ({ key, path: key }))
  await mkdir(join(folder, dated), { recursive: true })
  await symlink(dated, join(folder, '..data'))
  for (const { key, path, mode = defaultMode } of chosen as NonNullable<KeysToFiles['items']>) {
    const value = keys.get(key)
    if (!value && optional) continue
    if (!value) throw new MountError(`references non-existent config key: ${key}`)
    await mkdir(dirname(join(folder, dated, path)), { recursive: true })
    await writeFile(join(folder, dated, path), value, { mode })
  }
  for (const name of new Set(chosen.map(({ path }) => path.split('/')[0] ?? path))) {
    await symlink(join('..data', name), join(folder, name))
  }
}

/** Where the container's paths are on this machine: its mounts and its termination log, the longest path first. */
export function mountsOf(container: Container, folders: Map<string, string>, terminationLog: string): Mount[] {
  const mounts = (container.volumeMounts ?? []).map(({ name, mountPath, subPath }) => ({
    mountPath: mountPath.replace(/(.)\/+$/, '$1'),
    local: join(folders.get(name) ?? '', subPath ?? ''),
  }))
  const log = { mountPath: container.terminationMessagePath ?? '/dev/termination-log', local: terminationLog }
  return [...mounts, log].sort((a, b) => b.mountPath.length - a.mountPath.length)
}

/** The local path for a value that is a mounted path or lies beneath one; any other value as it is. */
export function localise(value: string, mounts: readonly Mount[]): string {
  const mount = mounts.find(({ mountPath }) => value === mountPath || value.startsWith(`${mountPath}/`))
  return mount ? mount.local + value.slice(mount.mountPath.length) : value
}

/** The way back, for what the container says: its own names for the local paths in a text. */
export function globalise(text: string, mounts: readonly Mount[]): string {
  const longestFirst = [...mounts].sort((a, b) => b.local.length - a.local.length)
  return longestFirst.reduce((result, { mountPath, local }) => result.replaceAll(local, mountPath), text)
}
