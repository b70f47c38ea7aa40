import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { expectEnd, expectSaidSoon, idOf, isUnready, type SeenPod, Uploads } from '../flow/failing.mts'
import { smallModel } from '../local/model.mts'
import { createWorld, type World } from '../local/world.mts'

// Parts of the cluster are stopped: nothing else can be tested on it meanwhile.

/** `cluster stop-node NODE`, `start-node`, `stop-api`, `start-api`: without such a tool these states are left out. */
const tool = process.env.E2E_CLUSTER_TOOL ?? ''

describe.skipIf(!tool)('a cluster of which a part is away', () => {
  let world: World
  let uploads: Uploads
  beforeAll(async () => {
    world = await createWorld({ models: ['api', 'node'].map((name) => smallModel({ id: idOf(name) })) })
    uploads = new Uploads(world)
  })
  afterAll(async () => {
    uploads?.open()
    await world?.close()
  })
  afterEach(() => uploads.open())

  async function cluster(...args: string[]): Promise<void> {
    const done = await world.run(tool, args)
    if (done.code !== 0) throw new Error(`${tool} ${args.join(' ')}: ${done.stdout}${done.stderr}`)
  }

  const answers = () =>
    world.kubectl(['get', 'pods']).then(
      () => true,
      () => false,
    )
  const isLeaving = async (name: string) =>
    (await uploads.pods(name)).some(({ metadata }: SeenPod) => metadata.deletionTimestamp !== undefined)

  test('its API: ridden out, and said', async () => {
    const { running } = await uploads.startHeld('api')
    await running.says(/pod \S+ runs on/)
    await cluster('stop-api')
    try {
      const visible = async () => !(await answers())
      await expectSaidSoon({ running, visible, says: /does not answer: .*trying on/ })
      uploads.open('api')
    } finally {
      await cluster('start-api')
    }
    await expectSaidSoon({ running, visible: answers, says: /the cluster answers again/ })
    const done = await running.outcome
    expect(done, done.stderr).toMatchObject({ code: 0 })
  })

  test('a node', async () => {
    const { running, pod } = await uploads.startHeld('node', ['--grace', '3'])
    const node = pod.spec.nodeName ?? ''
    await cluster('stop-node', node)
    try {
      await expectSaidSoon({
        running,
        visible: async () => (await uploads.pods('node')).some(isUnready),
        says: new RegExp(`^ +node ${node} does not answer; pod \\S+ on it may or may not run on$`, 'm'),
      })
      // What Kubernetes does itself after 300 s.
      await world.kubectl(['delete', 'pod', pod.metadata.name, '--wait=false'])
      await expectSaidSoon({ running, visible: () => isLeaving('node'), says: /cannot end, for its node/ })
      const last: [RegExp, RegExp] = [/makes no other pod before it has ended/, /start node .* again/]
      await expectEnd(running, { code: 1, cause: 'node-lost', last })
    } finally {
      await cluster('start-node', node)
    }
    uploads.open('node')
    const again = await uploads.start('node').outcome
    expect(again, again.stderr).toMatchObject({ code: 0 })
  })
})
