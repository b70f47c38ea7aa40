import { afterAll, beforeAll, expect, test } from 'vitest'
import { createWorld, type World } from '../local/world.mts'

let world: World

beforeAll(async () => {
  world = await createWorld({ volume: false })
})
afterAll(() => world?.close())

const segment = (letter: string) => letter.repeat(96)

/** Ids and the slugs that DESIGN section 4 gives them; the server has the last word on the names made from them. */
const NAMES: [string, RegExp][] = [
  ['gpt2', /^gpt2$/],
  ['meta-llama/Llama-3.1-8B-Instruct', /^meta-llama--llama-3-1-8b-instruct$/],
  [`${segment('a')}/${segment('B')}`, /^a{32}-[0-9a-f]{6}$/],
  ['1e5', /^1e5$/],
  ['null', /^null$/],
  ['0x10/1.0', /^0x10--1-0$/],
]

for (const [model, slug] of NAMES) {
  test(`${model.slice(0, 40)} gives names that the server takes, and stays a string`, async () => {
    const asked = await world.run('make', ['slug'], { env: { MODEL: model } })
    const MODEL_SLUG = asked.stdout.trim()
    expect(MODEL_SLUG, asked.stderr).toMatch(slug)
    for (const kind of ['model-upload-spaces', 'model-download-nfs', 'model-verify-nfs']) {
      const render = `envsubst '\${MODEL} \${MODEL_SLUG}' <k8s/jobs/${kind}.yaml | sed "s/namespace: dynamo-workload/namespace: $NAMESPACE/"`
      const rendered = await world.run(
        'bash',
        ['-c', `${render} | kubectl --context "$KUBE_CONTEXT" create --dry-run=server -o json -f -`],
        {
          env: { MODEL: model, MODEL_SLUG },
        },
      )
      expect(rendered, rendered.stderr).toMatchObject({ code: 0 })
      const job = JSON.parse(rendered.stdout)
      expect(job.metadata).toMatchObject({
        name: `${kind}-${MODEL_SLUG}`,
        annotations: { 'model-storage-pipeline/model': model },
      })
      expect(job.spec.template.spec.containers[0].env).toContainEqual({ name: 'MODEL', value: model })
    }
  })
}
