import { expect, test } from 'vitest'
import { leftoversOf } from '../../scripts/lib/leftovers.mts'
import type { ConfigMap, Job, Pod } from '../../scripts/lib/objects.mts'

const MOVER = 'model-mover-0123456789'

function metadata(name: string, model?: string) {
  const annotations = model === undefined ? {} : { annotations: { 'model-storage-pipeline/model': model } }
  return { name, uid: `uid-${name}`, resourceVersion: '1', creationTimestamp: '', ...annotations }
}

function job(name: string, model: string, condition?: 'Complete' | 'Failed', mover = MOVER): Job {
  const volumes = [{ name: 'mover', configMap: { name: mover } }]
  return {
    kind: 'Job',
    metadata: metadata(name, model),
    spec: { template: { metadata: {}, spec: { containers: [], volumes } } },
    status: condition ? { conditions: [{ type: condition, status: 'True' }] } : {},
  }
}

function pod(name: string, model: string, phase: string, owner?: string): Pod {
  const owned = owner === undefined ? {} : { ownerReferences: [{ uid: `uid-${owner}` }] }
  return {
    kind: 'Pod',
    metadata: { ...metadata(name, model), ...owned },
    spec: { containers: [], volumes: [{ name: 'mover', configMap: { name: MOVER } }] },
    status: { phase },
  }
}

const configMap = (name: string): ConfigMap => ({ kind: 'ConfigMap', metadata: metadata(name) })

function names(found: Parameters<typeof leftoversOf>[0]) {
  const { live, jobs, pods, configMaps } = leftoversOf(found, 'a/b')
  return [live, jobs, pods, configMaps].map((list) => list.map((one) => one.metadata.name))
}

test.each<[string, Parameters<typeof leftoversOf>[0], string[][]]>([
  ['nothing', [], [[], [], [], []]],
  [
    'finished Jobs, however they ended, with their pods and their mover',
    [
      job('up', 'a/b', 'Complete'),
      pod('up-1', 'a/b', 'Succeeded', 'up'),
      job('down', 'a/b', 'Failed'),
      configMap(MOVER),
    ],
    [[], ['up', 'down'], [], [MOVER]],
  ],
  [
    'a Job that runs, and its mover stays',
    [job('up', 'a/b'), pod('up-1', 'a/b', 'Running', 'up'), configMap(MOVER)],
    [['up'], [], [], []],
  ],
  [
    'pods whose Job is gone, the one that has ended and the one that has not',
    [pod('x', 'a/b', 'Failed', 'gone'), pod('y', 'a/b', 'Running', 'gone'), configMap(MOVER)],
    [['y'], [], ['x'], []],
  ],
  [
    'nothing of a model of the same slug, nor the mover of its finished Job',
    [job('up', 'A/B', 'Complete'), pod('z', 'A/B', 'Failed'), configMap(MOVER)],
    [[], [], [], []],
  ],
  [
    'movers of other versions, and never the one by hand',
    [job('up', 'A/B'), configMap(MOVER), configMap('model-mover-abcdef0123'), configMap('model-mover')],
    [[], [], [], ['model-mover-abcdef0123']],
  ],
])('%s', (_, found, expected) => expect(names(found)).toEqual(expected))

test('a removal that was never begun keeps transfers out, and goes with the next removal', () => {
  const removal = job('model-clean-nfs', 'a/b')
  removal.spec.suspend = true
  const env = [{ name: 'CONFIRMED', value: 'true' }]
  removal.spec.template.spec.containers = [{ name: 'mover', image: 'x', env, resources: {} }]
  expect(leftoversOf([removal], 'a/b').live).toEqual([removal])
  expect(leftoversOf([removal], 'a/b', true)).toMatchObject({ live: [], jobs: [removal] })
})
