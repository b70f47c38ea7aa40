import { afterAll, beforeAll, expect, test } from 'vitest'
import { smallModel } from '../local/model.mts'
import { createWorld, type World } from '../local/world.mts'
import { expectStaged } from './proof.mts'

const model = smallModel({ id: 'acme/by-hand' })
const slug = 'acme--by-hand'
let world: World

// The namespace and the names that stand in the files.
beforeAll(async () => {
  world = await createWorld({
    models: [model],
    namespace: 'dynamo-workload',
    pv: 'model-nfs-pv',
    pvc: 'model-nfs-pvc',
    bucket: 'do-gtc2026-doks-demo',
  })
})
afterAll(() => world?.close())

/** Runs a shell line in the repository's folder, as the README has it; kubectl's current context is the world's. */
async function shell(line: string, env: Record<string, string> = {}): Promise<string> {
  const all = `kubectl() { command kubectl --context "$KUBE_CONTEXT" "$@"; }\n${line}`
  const done = await world.run('bash', ['-euo', 'pipefail', '-c', all], { env })
  expect(done, `${line}\n${done.stderr}`).toMatchObject({ code: 0 })
  return done.stdout
}

test('kubectl and envsubst alone stage a model', async () => {
  await shell('kubectl apply -f k8s/storage/model-nfs-pvc.yaml && kubectl apply -k k8s/mover')
  for (const [name, file] of [
    ['model-upload-spaces', 'k8s/jobs/model-upload-spaces.yaml'],
    ['model-download-nfs', 'k8s/jobs/model-download-nfs.yaml'],
    ['model-verify-nfs', 'k8s/jobs/model-verify-nfs.yaml'],
  ]) {
    // Between the two, the addresses of the stand-ins take the place of the real ones.
    await shell(
      `envsubst '\${MODEL} \${MODEL_SLUG}' <${file} |
       kubectl set env --local -f - "HF_ENDPOINT=$HF_ENDPOINT" "ENDPOINT=$SPACES_ENDPOINT" -o yaml |
       kubectl apply -f -`,
      { MODEL: model.id, MODEL_SLUG: slug },
    )
    await world.kubectl(['wait', `job/${name}-${slug}`, '--for=condition=complete', '--timeout=120s'])
  }
  await expectStaged(world, model)
})
