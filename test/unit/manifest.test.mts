import { readFileSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { annotation, type JobKind } from '../../scripts/lib/labels.mts'
import { renderClaim, renderJob, renderMover, settingsOf } from '../../scripts/lib/manifest.mts'
import { type OptionName, options } from '../../scripts/lib/options.mts'
import { readSettings } from '../../scripts/lib/settings.mts'

function settings(...args: string[]) {
  return readSettings('test', Object.keys(options) as OptionName[], args, {})
}

async function render(kind: JobKind, ...args: string[]) {
  const job = await renderJob(kind, settings(...args), 'model-mover-0123456789')
  const [container] = job.spec.template.spec.containers
  if (!container) throw new Error('no container')
  const value = (name: string) => container.env?.find((variable) => variable.name === name)?.value
  return { job, container, value }
}

const KINDS = [
  'model-upload-spaces',
  'model-download-nfs',
  'model-verify-nfs',
  'model-verify-spaces',
  'model-clean-spaces',
  'model-clean-nfs',
  'model-plan',
] as const

describe.each(KINDS)('%s', (kind) => {
  test('bears the slug, the namespace, the model and the settings', async () => {
    const { job } = await render(kind, '--model', 'Org/M.1', '--namespace', 'other')
    expect(job.metadata).toMatchObject({ name: `${kind}-org--m-1`, namespace: 'other' })
    expect(job.metadata.annotations[annotation.model]).toBe('Org/M.1')
    expect(JSON.parse(job.metadata.annotations[annotation.settings] ?? '')).toEqual(settingsOf(job.spec))
    expect(job.metadata.annotations[annotation.settingsHash]).toMatch(/^[0-9a-f]{10}$/)
    expect(job.spec.template.metadata.annotations, 'edits of the Job are none of its template').toEqual({
      [annotation.model]: 'Org/M.1',
    })
  })

  test('mounts the mover of this checkout and the claim that was named', async () => {
    const { job } = await render(kind, '--pvc', 'theirs')
    const volumes = job.spec.template.spec.volumes ?? []
    expect(volumes[0]).toEqual({ name: 'mover', configMap: { name: 'model-mover-0123456789' } })
    expect(volumes.map(({ configMap }) => configMap?.name).filter(Boolean)).toEqual(['model-mover-0123456789'])
    const claims = volumes.flatMap(({ persistentVolumeClaim }) => persistentVolumeClaim?.claimName ?? [])
    expect(claims).toEqual(kind.endsWith('spaces') ? [] : ['theirs'])
  })

  test('has by hand the settings that the scripts have by default', async () => {
    const { job } = await render(kind)
    const byHand = parse(await readFile(`k8s/jobs/${kind}.yaml`, 'utf8')).spec
    expect({ ...settingsOf(byHand), MODEL: settings().model }).toEqual(settingsOf(job.spec))
  })

  test.each(['1e5', 'null', 'true', '0x1F', '1.10', '010'])('keeps a model called %s a text', async (model) => {
    const { value, job } = await render(kind, '--model', model)
    expect([value('MODEL'), job.metadata.annotations[annotation.model]]).toEqual([model, model])
  })
})

test('the settings reach the pod', async () => {
  const args = [
    '--revision',
    'v1',
    '--bucket',
    'bkt',
    '--endpoint',
    'http://s3:1',
    '--region',
    'r',
    '--hf-endpoint',
    'http://hub:1',
  ]
  const more = [
    '--buffer',
    '64Mi',
    '--pip-index-url',
    'http://pip:1',
    '--include',
    '*.json',
    '--include',
    'a/*',
    '--exclude',
    '',
  ]
  const { value, container } = await render('model-upload-spaces', ...args, ...more, '--image', 'python:3.11')
  const names = [
    'REVISION',
    'BUCKET',
    'ENDPOINT',
    'AWS_DEFAULT_REGION',
    'HF_ENDPOINT',
    'BUFFER',
    'PIP_INDEX_URL',
    'INCLUDE',
    'EXCLUDE',
  ]
  expect(names.map(value)).toEqual([
    'v1',
    'bkt',
    'http://s3:1',
    'r',
    'http://hub:1',
    '64Mi',
    'http://pip:1',
    '*.json a/*',
    '',
  ])
  expect(container.image).toBe('python:3.11')
})

test('what was not asked for is left to the mover', async () => {
  const { value } = await render('model-upload-spaces')
  expect(['INCLUDE', 'EXCLUDE', 'PIP_INDEX_URL'].map(value)).toEqual([undefined, undefined, undefined])
})

test('hop 2 is told the revision and the filter, not the Hub', async () => {
  const { value } = await render('model-download-nfs', '--revision', 'v1', '--exclude', 'x')
  expect(['REVISION', 'EXCLUDE', 'HF_ENDPOINT'].map(value)).toEqual(['v1', 'x', undefined])
})

/** What a pod asks for, may use and learns: `[requests, limits]`, and the Secrets, `?` for one that may be missing. */
const PODS: Record<
  JobKind,
  { cpu: string[]; memory: string[]; disk: string; secrets: string[]; volume?: 'ro' | 'rw' }
> = {
  'model-upload-spaces': {
    cpu: ['1', '2'],
    memory: ['2Gi', '3Gi'],
    disk: '256Mi',
    secrets: ['spaces-credentials', 'hf-token?', 'mover-network?'],
  },
  'model-download-nfs': {
    cpu: ['1', '2'],
    memory: ['1Gi', '2Gi'],
    disk: '256Mi',
    secrets: ['spaces-credentials', 'mover-network?'],
    volume: 'rw',
  },
  'model-plan': {
    cpu: ['250m', '1'],
    memory: ['256Mi', '512Mi'],
    disk: '256Mi',
    secrets: ['spaces-credentials', 'hf-token?', 'mover-network?'],
    volume: 'ro',
  },
  'model-verify-nfs': { cpu: ['100m', '1'], memory: ['128Mi', '256Mi'], disk: '32Mi', secrets: [], volume: 'ro' },
  'model-verify-spaces': {
    cpu: ['500m', '2'],
    memory: ['512Mi', '1Gi'],
    disk: '256Mi',
    secrets: ['spaces-credentials', 'mover-network?'],
  },
  'model-clean-nfs': { cpu: ['100m', '1'], memory: ['128Mi', '256Mi'], disk: '32Mi', secrets: [], volume: 'rw' },
  'model-clean-spaces': {
    cpu: ['100m', '1'],
    memory: ['256Mi', '512Mi'],
    disk: '256Mi',
    secrets: ['spaces-credentials', 'mover-network?'],
  },
}

describe.each(KINDS)('the manifest of %s, as it is applied by hand', (kind) => {
  const job = parse(readFileSync(`k8s/jobs/${kind}.yaml`, 'utf8'))
  const pod = job.spec.template.spec
  const [mover] = pod.containers

  test('is a Job in the namespace of the spec, with the recommended labels on it and on its pods', () => {
    const labels = {
      'app.kubernetes.io/name': kind,
      'app.kubernetes.io/instance': `\${MODEL_SLUG}`,
      'app.kubernetes.io/part-of': 'model-storage-pipeline',
    }
    const annotations = { [annotation.model]: `\${MODEL}` }
    expect(job.metadata).toEqual({ name: `${kind}-\${MODEL_SLUG}`, namespace: 'dynamo-workload', labels, annotations })
    expect(job.spec.template.metadata).toEqual({ labels, annotations })
  })

  test('ends, is tried again and goes as the spec says', () => {
    expect(job.spec).toMatchObject({ backoffLimit: 3, ttlSecondsAfterFinished: 3600, activeDeadlineSeconds: 86400 })
    expect(job.spec.podFailurePolicy.rules).toEqual([
      { action: 'Ignore', onPodConditions: [{ type: 'DisruptionTarget', status: 'True' }] },
      { action: 'FailJob', onExitCodes: { containerName: 'mover', operator: 'In', values: [64] } },
    ])
    expect(pod.restartPolicy).toBe('Never')
  })

  test('runs one container of the spec’s image, of which python is the first process', () => {
    expect(pod.containers).toHaveLength(1)
    expect(mover).toMatchObject({ name: 'mover', image: 'python:3.11-slim' })
    expect(mover.command.slice(0, 2)).toEqual(['python', '/mover/mover.py'])
    expect(mover.terminationMessagePolicy).toBe('File')
  })

  test('tolerates no taint of GPU nodes and has no privilege that it does not need', () => {
    expect(pod.tolerations).toBeUndefined()
    expect(pod).toMatchObject({
      automountServiceAccountToken: false,
      securityContext: { seccompProfile: { type: 'RuntimeDefault' } },
    })
    expect(mover.securityContext).toMatchObject({ allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } })
  })

  test('asks for what it needs, and mounts the claim as it has to', () => {
    const { cpu, memory, disk, secrets, volume } = PODS[kind]
    expect(mover.resources).toEqual({
      requests: { cpu: cpu[0], memory: memory[0], 'ephemeral-storage': disk },
      limits: { cpu: cpu[1], memory: memory[1] },
    })
    const from = (mover.envFrom ?? []) as { secretRef: { name: string; optional?: boolean } }[]
    expect(from.map(({ secretRef: { name, optional } }) => `${name}${optional ? '?' : ''}`)).toEqual(secrets)
    const mounts = [
      { name: 'mover', mountPath: '/mover', readOnly: true },
      ...(volume ? [{ name: 'models', mountPath: '/models', ...(volume === 'ro' ? { readOnly: true } : {}) }] : []),
    ]
    expect(mover.volumeMounts).toEqual(mounts)
    expect(pod.volumes).toEqual([
      {
        name: 'mover',
        projected: {
          sources: [{ configMap: { name: 'model-mover-base' } }, { configMap: { name: 'model-mover-verbs' } }],
        },
      },
      ...(volume ? [{ name: 'models', persistentVolumeClaim: { claimName: 'model-nfs-pvc' } }] : []),
    ])
  })
})

test.each(['model-upload-spaces', 'model-download-nfs'])('%s talks to the Spaces of the spec', (kind) => {
  const { spec } = parse(readFileSync(`k8s/jobs/${kind}.yaml`, 'utf8'))
  expect(settingsOf(spec)).toMatchObject({
    BUCKET: 'do-gtc2026-doks-demo',
    ENDPOINT: 'https://atl1.digitaloceanspaces.com',
    AWS_DEFAULT_REGION: 'atl1',
  })
})

test('a repair is asked of both transfers, and of nothing else', async () => {
  const asked = await Promise.all(KINDS.map(async (kind) => (await render(kind, '--repair')).value('REPAIR')))
  expect(asked).toEqual(KINDS.map((kind) => (/upload|download/.test(kind) ? 'true' : undefined)))
})

test('by hand, a removal removes nothing', async () => {
  const kinds = ['model-clean-spaces', 'model-clean-nfs'] as const
  for (const kind of kinds) {
    expect((await render(kind)).value('CONFIRMED')).toBeUndefined()
    const { spec } = await renderJob(kind, settings(), 'model-mover-1', { CONFIRMED: 'true' })
    expect(settingsOf(spec)).toMatchObject({ CONFIRMED: 'true' })
  }
})

test('a $ in a value is no reference to a Secret', async () => {
  const { value } = await render('model-upload-spaces', '--include', '$(AWS_SECRET_ACCESS_KEY)')
  expect(value('INCLUDE')).toBe('$$(AWS_SECRET_ACCESS_KEY)')
})

test.each([
  ['4Gi', { requests: '2Gi', limits: '4Gi' }],
  ['512Mi', { requests: '512Mi', limits: '512Mi' }],
])('a memory limit of %s', async (memory, { requests, limits }) => {
  const { container } = await render('model-upload-spaces', '--memory', memory)
  expect(container.resources).toMatchObject({ requests: { memory: requests }, limits: { memory: limits } })
})

test('other settings are other settings, another mover is not', async () => {
  const hash = async (args: string[], mover = 'model-mover-1') =>
    (await renderJob('model-upload-spaces', settings(...args), mover)).metadata.annotations[annotation.settingsHash]
  const own = await hash([])
  expect(await hash([], 'model-mover-2')).toBe(own)
  expect(await hash(['--timeout', '5', '--restart'])).toBe(own)
  expect(await hash(['--repair']), 'a repair is joined by no other run').not.toBe(own)
  for (const args of [
    ['--revision', 'v1'],
    ['--exclude', ''],
    ['--image', 'x'],
    ['--memory', '4Gi'],
    ['--buffer', '1Gi'],
  ])
    expect(await hash(args), args.join(' ')).not.toBe(own)
})

test('the ConfigMap holds the real files and is named by them', async () => {
  const mover = await renderMover('ns')
  const files = (await readdir('k8s/mover')).filter((name) => /\.py$|^requirements\.txt$/.test(name))
  expect(Object.keys(mover.data).sort()).toEqual(files.sort())
  expect(mover).toMatchObject({
    immutable: true,
    metadata: { namespace: 'ns', name: expect.stringMatching(/^model-mover-[0-9a-f]{10}$/) },
  })
  expect(Buffer.byteLength(JSON.stringify(mover)), 'what etcd takes').toBeLessThan(2 ** 20)
})

test.each([
  [undefined, '50Gi'],
  ['1Ti', '50Gi'],
  ['50Gi', '50Gi'],
  ['5Gi', '5Gi'],
  ['50G', '50G'],
])('a claim on a volume of %s asks for %s', async (capacity, request) => {
  const claim = await renderClaim(settings('--pv', 'v', '--pvc', 'c', '--namespace', 'n'), capacity)
  expect(claim).toMatchObject({
    metadata: { name: 'c', namespace: 'n' },
    spec: {
      volumeName: 'v',
      storageClassName: 'nfs-static',
      accessModes: ['ReadWriteMany'],
      resources: { requests: { storage: request } },
    },
  })
})
