import { cp, rm } from 'node:fs/promises'
import path from 'node:path'
import type { World } from '../local/world.mts'

/** Both copies of a staged model as they are now, to be put back as often as tests change them; on the stand-ins only. */
export async function keepCopies(world: World, model: string): Promise<() => Promise<void>> {
  const folder = path.join(world.volume, model)
  const kept = path.join(world.dir, 'kept', model)
  const copy = (from: string, to: string) => cp(from, to, { recursive: true, preserveTimestamps: true })
  await copy(folder, kept)
  const { objects, uploads } = world.spaces.bucket(world.bucket.name)
  const prefix = `models/${model}/`
  const keptObjects = [...objects].filter(([key]) => key.startsWith(prefix))
  return async () => {
    await rm(folder, { recursive: true, force: true })
    await copy(kept, folder)
    for (const key of [...objects.keys()]) if (key.startsWith(prefix)) objects.delete(key)
    for (const [key, object] of keptObjects) objects.set(key, object)
    for (const { id, key } of [...uploads.values()]) if (key.startsWith(prefix)) uploads.delete(id)
  }
}
