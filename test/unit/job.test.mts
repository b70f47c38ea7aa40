import { describe, expect, test } from 'vitest'
import { decide, differences } from '../../scripts/lib/job.mts'
import { annotation } from '../../scripts/lib/labels.mts'
import type { JobManifest } from '../../scripts/lib/manifest.mts'
import type { EnvVar, Job, JobSpec } from '../../scripts/lib/objects.mts'

function spec(revision: string): JobSpec {
  const env: EnvVar[] = [
    { name: 'REVISION', value: revision },
    { name: 'JOB_UID', valueFrom: {} },
  ]
  const resources = { limits: { memory: '3Gi' } }
  return { template: { metadata: {}, spec: { containers: [{ name: 'mover', image: 'python', env, resources }] } } }
}

function wanted(model = 'Org/M.1', revision = 'main'): JobManifest {
  const annotations = { [annotation.model]: model, [annotation.run]: 'ours' }
  const metadata = { name: 'job', namespace: 'ns', labels: {}, annotations }
  return { apiVersion: 'batch/v1', kind: 'Job', metadata, spec: spec(revision) }
}

interface Found {
  model?: string | null
  revision?: string
  ended?: 'Complete' | 'Failed'
  deleting?: boolean
  run?: string
  /** A Job that removes, and whether it was begun. */
  removal?: 'suspended' | 'running'
}

function found({ model = 'Org/M.1', revision = 'main', ended, deleting, run, removal }: Found): Job {
  const there: Job = {
    kind: 'Job',
    metadata: {
      name: 'job',
      uid: 'u',
      resourceVersion: '1',
      creationTimestamp: '2026-01-01T00:00:00Z',
      annotations: {
        ...(model === null ? {} : { [annotation.model]: model }),
        ...(run === undefined ? {} : { [annotation.run]: run }),
      },
      ...(deleting ? { deletionTimestamp: '2026-01-01T00:00:00Z' } : {}),
    },
    spec: spec(revision),
    status: { conditions: ended ? [{ type: ended, status: 'True' }] : [{ type: 'Suspended', status: 'False' }] },
  }
  if (removal) {
    there.spec.suspend = removal === 'suspended'
    there.spec.template.spec.containers[0]?.env?.push({ name: 'CONFIRMED', value: 'true' })
  }
  return there
}

describe('under the name of the wanted Job there is', () => {
  test.each<[string, Job | undefined, boolean, string, RegExp?]>([
    ['nothing', undefined, false, 'create'],
    ['one that runs with the same settings', found({}), false, 'join'],
    ['one that runs with the same settings, to be restarted', found({}), true, 'replace', /--restart/],
    [
      'one that runs with other settings',
      found({ revision: 'v1' }),
      false,
      'refuse',
      /REVISION is v1 there, main here.*--restart/,
    ],
    ['one that runs with other settings, to be restarted', found({ revision: 'v1' }), true, 'replace'],
    ['one that is done', found({ ended: 'Complete' }), false, 'replace', /finished/],
    ['one that failed', found({ ended: 'Failed', revision: 'v1' }), false, 'replace'],
    ['one that is being deleted', found({ deleting: true }), true, 'wait-until-gone'],
    ['one that is done and being deleted', found({ ended: 'Complete', deleting: true }), false, 'wait-until-gone'],
    ['our own, made by a call whose answer got lost', found({ run: 'ours' }), false, 'follow'],
    ['another run’s with the same settings', found({ run: 'theirs' }), false, 'join'],
    ['a removal that was not begun', found({ removal: 'suspended' }), false, 'wait-until-resumed'],
    ['a removal that runs', found({ removal: 'running' }), false, 'refuse', /CONFIRMED/],
    ['one that runs for another model', found({ model: 'org/m-1' }), false, 'refuse', /another model, org\/m-1/],
    ['one that runs for another model, to be restarted', found({ model: 'org/m-1' }), true, 'refuse'],
    [
      'one that is done with another model',
      found({ model: 'org/m-1', ended: 'Complete' }),
      true,
      'refuse',
      /was for another model, org\/m-1/,
    ],
    ['one that is done with nobody knows what', found({ model: null, ended: 'Failed' }), false, 'refuse', /report/],
    ['one that runs for nobody knows what', found({ model: null }), false, 'refuse', /does not name/],
  ])('%s', (_, there, restart, action, words = /(?:)/) => {
    const decision = decide(there, wanted(), restart)
    expect(decision.action).toBe(action)
    expect(JSON.stringify(decision)).toMatch(words)
  })
})

test('a Job is compared by what it was asked for, and one without notes by its template', () => {
  const changed = found({ revision: 'put in by a webhook' })
  const asked = JSON.stringify({ REVISION: 'main', image: 'python', memory: '3Gi' })
  changed.metadata.annotations = { ...changed.metadata.annotations, [annotation.settings]: asked }
  expect(decide(changed, wanted(), false).action).toBe('join')
  const byHand = found({})
  for (const { resources } of byHand.spec.template.spec.containers) resources.limits = { memory: '3072Mi' }
  expect(decide(byHand, wanted(), false).action).toBe('join')
})

test('differences name each setting and both sides, but no value that may be a secret', () => {
  const there = { REVISION: '1', BUCKET: 'x', EXCLUDE: '', HF_TOKEN: 'hf_by_hand' }
  expect(differences(there, { REVISION: '2', BUCKET: 'x', INCLUDE: 'y' })).toBe(
    'EXCLUDE is empty there, not set here; HF_TOKEN differs; INCLUDE is not set there, y here; REVISION is 1 there, 2 here',
  )
})
