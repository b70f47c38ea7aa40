import { mkdir, rm, symlink, writeFile } from 'node:fs/promises'
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
  volumeFolder: (volume: PersistentVolume) => string,
): Promise<Map<string, string>> {
  const folders = new Map<string, string>()
  for (const volume of pod.spec.volumes ?? []) {
    try {
      folders.set(
        volume.name,
        await materialiseOne(store, pod, volume, join(root, 'volumes', volume.name), volumeFolder),
      )
    } catch (error) {
      if (!(error instanceof MountError)) throw error
      throw new MountError(`MountVolume.SetUp failed for volume "${volume.name}" : ${error.message}`)
    }
  }
  return folders
}

async function materialiseOne(
  store: Store,
  pod: Pod,
  volume: Volume,
  folder: string,
  volumeFolder: (volume: PersistentVolume) => string,
): Promise<string> {
  const { namespace } = pod.metadata
  if (volume.configMap) {
    const map = store.get<ConfigMap>(configMaps, namespace, volume.configMap.name)
    if (!map && !volume.configMap.optional) throw new MountError(`configmap "${volume.configMap.name}" not found`)
    const text = Object.entries(map?.data ?? {}).map(([key, value]): [string, Buffer] => [key, Buffer.from(value)])
    const binary = Object.entries(map?.binaryData ?? {}).map(([key, value]): [string, Buffer] => [
      key,
      Buffer.from(value, 'base64'),
    ])
    return writeKeys(folder, new Map([...text, ...binary]), volume.configMap)
  }
  if (volume.secret) {
    const secret = store.get<Secret>(secrets, namespace, volume.secret.secretName)
    if (!secret && !volume.secret.optional) throw new MountError(`secret "${volume.secret.secretName}" not found`)
    const data = Object.entries(secret?.data ?? {}).map(([key, value]): [string, Buffer] => [
      key,
      Buffer.from(value, 'base64'),
    ])
    return writeKeys(folder, new Map(data), volume.secret)
  }
  const local = volume.persistentVolumeClaim
    ? volumeFolder(boundVolume(store, namespace, volume.persistentVolumeClaim.claimName))
    : (volume.hostPath?.path ?? folder)
  await mkdir(local, { recursive: true })
  return local
}

function boundVolume(store: Store, namespace: string | undefined, name: string): PersistentVolume {
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
): Promise<string> {
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
  return folder
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
  return mounts.reduce((result, { mountPath, local }) => result.replaceAll(local, mountPath), text)
}
