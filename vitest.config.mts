import { defineConfig } from 'vitest/config'

const real = process.env.E2E === '1'

/** Jobs of a real cluster start in seconds, those of the stand-in at once. */
const seconds = real ? 300 : 180

/**
 * What `make e2e` leaves out: tests of the mover as a process, of the stand-ins themselves and of what is refused before
 * any call, in which a cluster has no part, and those that need a stand-in that can be made to misbehave.
 */
const STAND_INS = [
  'mover*',
  'servers*',
  'kube*',
  'moto*',
  'attach*',
  'bench*',
  'blips*',
  'hostile*',
  'login-helper*',
  'nodes*',
  'clean*',
  'diagnosis*',
  'repair*',
].map((name) => `test/flow/${name}`)

export default defineConfig({
  test: {
    // Each flow test runs a whole pipeline of processes, which often wait: for a moment, or for each other.
    maxWorkers: 3,
    projects: [
      { test: { name: 'unit', include: ['test/unit/**/*.test.mts'] } },
      ring('flow'),
      // What only a real cluster can show; `make e2e` runs it together with the flow ring.
      ring('e2e'),
      // Takes parts of the cluster away, from under whatever else would run.
      ring('outage', 1),
    ],
  },
})

/** Rings of a higher order begin when all others have ended. */
function ring(name: string, groupOrder = 0) {
  const limit = seconds * 1000
  return {
    test: {
      name,
      sequence: { groupOrder },
      include: [`test/${name}/**/*.test.mts`],
      exclude: real ? STAND_INS : [],
      globalSetup: 'test/local/kubectl.mts',
      testTimeout: limit,
      hookTimeout: limit,
      teardownTimeout: limit,
      // A machine that stalls for a moment must not keep a change from landing; a defect fails twice.
      retry: process.env.CI ? 1 : 0,
    },
  }
}
