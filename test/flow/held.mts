import { afterEach, beforeEach } from 'vitest'
import { gate } from '../local/faults.mts'
import type { HubRequest } from '../local/hub.mts'
import type { World } from '../local/world.mts'

/** The gate before which the upload of the test stands still: at the bytes of its first large file. */
export let held: ReturnType<typeof gate<HubRequest>>

/** Holds the uploads of each of a file's tests; behind it goes all that the test left in the world. */
export function heldUploads(world: () => World): void {
  beforeEach(() => {
    held = gate()
    world().hub.faults.add({ match: ({ server }) => server === 'cdn', act: held.act })
  })
  afterEach(async () => {
    held.open()
    const { hub, bucket } = world()
    hub.faults.clear()
    await world().kubectl(['delete', 'jobs', '--all', '--cascade=foreground'])
    for (const key of await bucket.keys()) await bucket.remove(key)
  })
}
