import { describe, expect, test } from 'vitest'
import {
  claimFindings,
  kubectlFindings,
  permissionFindings,
  secretFindings,
  serverFindings,
  unknownContext,
} from '../../scripts/lib/checks.mts'
import { Kubectl } from '../../scripts/lib/kubectl.mts'
import type { JobSpec, Node, PersistentVolumeClaim, Taint } from '../../scripts/lib/objects.mts'
import { jobPermissions, missingPermissions } from '../../scripts/lib/permissions.mts'
import { placementProblem } from '../../scripts/lib/placement.mts'
import { listReaders } from '../../scripts/lib/readers.mts'
import { readSettings } from '../../scripts/lib/settings.mts'

const cluster = new Kubectl('demo', 'team')
const metadata = { uid: '', resourceVersion: '', creationTimestamp: '' }

describe('versions', () => {
  const versions = (client: string, server?: string) => ({
    clientVersion: { minor: client, gitVersion: `v1.${client}` },
    ...(server ? { serverVersion: { minor: server, gitVersion: `v1.${server}` } } : {}),
  })
  test.each([
    ['20', 0],
    ['32+', 0],
    ['19', 1],
  ])('kubectl 1.%s gives %i problems', (minor, count) => {
    const found = kubectlFindings(versions(minor))
    expect(found).toHaveLength(count)
    for (const { fact } of found) expect(fact).toMatch(/kubectl is v1\.19; 1\.20 is needed, for --cascade=foreground/)
  })
  test.each([
    ['27', 0],
    ['33+', 0],
    ['26', 1],
    [undefined, 0],
  ])('a server 1.%s gives %i problems', (minor, count) => {
    expect(serverFindings(versions('32', minor), 'demo')).toHaveLength(count)
  })
})

describe('permissions', () => {
  const all = { verbs: ['*'], apiGroups: ['*'], resources: ['*'] }
  const tenant = [
    { verbs: ['get', 'list', 'create', 'delete'], apiGroups: ['batch'], resources: ['jobs'] },
    { verbs: ['get', 'list'], apiGroups: [''], resources: ['pods', 'events', 'configmaps'] },
    { verbs: ['get'], apiGroups: [''], resources: ['*/log'] },
  ]
  test.each([
    ['an administrator', [all], []],
    ['a tenant', [...tenant, { verbs: ['create'], apiGroups: [''], resources: ['configmaps'] }], []],
    ['a tenant without create', tenant, ['create configmaps']],
    [
      'a right for one object by name',
      [...tenant, { verbs: ['create'], apiGroups: [''], resources: ['configmaps'], resourceNames: ['one'] }],
      ['create configmaps'],
    ],
    ['a right of another group', [{ ...all, apiGroups: ['apps'] }], jobPermissions().map(line)],
  ])('of %s', (_, resourceRules, missing) => {
    expect(missingPermissions({ resourceRules }, jobPermissions())).toEqual(missing)
  })
  function line({ verbs, resource }: { verbs: readonly string[]; resource: string }): string {
    return `${verbs.join(', ')} ${resource}`
  }
  test('that are not listed are a problem, unless there may be more than the list', () => {
    const wanted = jobPermissions()
    expect(permissionFindings({ resourceRules: [all], incomplete: true }, wanted, cluster)).toEqual([])
    expect(permissionFindings({ resourceRules: tenant }, wanted, cluster)[0]?.level).toBe('problem')
    expect(permissionFindings({ resourceRules: tenant, incomplete: true }, wanted, cluster)[0]?.level).toBe('skipped')
  })
  test('for one object are enough where one is needed', () => {
    const rule = { verbs: ['get'], apiGroups: [''], resources: ['secrets'], resourceNames: ['mine'] }
    const wanted = { group: '', resource: 'secrets', verbs: ['get'] }
    expect(missingPermissions({ resourceRules: [rule] }, [{ ...wanted, name: 'mine' }])).toEqual([])
    expect(missingPermissions({ resourceRules: [rule] }, [{ ...wanted, name: 'theirs' }])).toEqual(['get secrets'])
  })
})

describe('a node for the pod', () => {
  const node = (name: string, memory: string, ...taints: Taint[]): Node => ({
    metadata: { ...metadata, name, labels: { pool: name } },
    spec: taints.length > 0 ? { taints } : {},
    status: { allocatable: { cpu: '1900m', memory } },
  })
  const pod = (extra: Partial<JobSpec['template']['spec']> = {}): JobSpec['template']['spec'] => ({
    containers: [
      { name: 'mover', image: 'x', resources: { requests: { cpu: '1', memory: '2Gi' }, limits: { memory: '3Gi' } } },
    ],
    ...extra,
  })
  const gpu = { key: 'nvidia.com/gpu', effect: 'NoSchedule' }
  test.each([
    ['one that is large enough', [node('small', '1Gi'), node('large', '3110Mi')]],
    [
      'one that is cordoned for now',
      [node('a', '4Gi', { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' })],
    ],
    ['one that had rather not', [node('a', '4Gi', { key: 'spot', effect: 'PreferNoSchedule' })]],
  ])('%s', (_, nodes) => expect(placementProblem(nodes, pod())).toBeUndefined())

  test('is too small: the largest is named, and what was asked', () => {
    const why = placementProblem([node('small', '1Gi'), node('middle', '1536Mi'), node('gpu', '64Gi', gpu)], pod())
    expect(why).toContain('it asks for memory 2Gi, cpu 1')
    expect(why).toContain('the largest that would take it, middle, has memory 1536Mi')
    expect(why).toContain('gpu has the taint nvidia.com/gpu')
  })
  test('is tolerated, or not', () => {
    const nodes = [node('gpu', '64Gi', gpu)]
    expect(placementProblem(nodes, pod())).toContain('taint')
    expect(placementProblem(nodes, pod({ tolerations: [{ key: gpu.key, operator: 'Exists' }] }))).toBeUndefined()
    expect(placementProblem(nodes, pod({ tolerations: [{ key: gpu.key, value: 'other' }] }))).toContain('taint')
  })
  test('bears the label that is asked for, or not', () => {
    expect(placementProblem([node('a', '4Gi')], pod({ nodeSelector: { pool: 'b' } }))).toContain(
      'lacks the label pool=b',
    )
  })
  test('is not there', () => expect(placementProblem([], pod())).toContain('no node at all'))
})

describe('a Secret', () => {
  test.each([
    ['is whole', 'spaces-credentials', false, ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'], undefined],
    ['is missing', 'spaces-credentials', false, undefined, 'problem'],
    ['lacks a key', 'spaces-credentials', false, ['AWS_ACCESS_KEY_ID'], 'problem'],
    ['may be missing', 'hf-token', true, undefined, 'warning'],
    ['that may be missing has another key', 'hf-token', true, ['token'], 'warning'],
    ['of somebody else is not known', 'other', false, [], undefined],
  ])('%s', (_, name, optional, keys, level) => {
    expect(secretFindings(name, optional, keys, cluster)[0]?.level).toBe(level)
  })
})

describe('a claim that has to be there', () => {
  const settings = readSettings('model-to-nfs', [], [], {})
  const claim = (phase: string, spec: PersistentVolumeClaim['spec'] = { volumeName: 'v' }, deleted = {}) => ({
    metadata: { ...metadata, name: 'c', ...deleted },
    spec,
    status: { phase },
  })
  test.each([
    ['Bound', claim('Bound'), undefined],
    ['absent', undefined, 'problem'],
    ['Lost', claim('Lost'), 'problem'],
    ['Pending on its volume', claim('Pending'), 'problem'],
    ['Pending until its first pod', claim('Pending', {}), 'warning'],
    ['being deleted', claim('Bound', {}, { deletionTimestamp: 'now' }), 'problem'],
  ])('%s', (_, found, level) => expect(claimFindings(found, settings)[0]?.level).toBe(level))
})

test('a context that is not there names those that are, and how a DigitalOcean one is got', () => {
  const failure = unknownContext('do-nyc2-gtc-demo', ['a', 'b'])
  expect(failure.message).toBe('the kubeconfig has no context do-nyc2-gtc-demo: it has a, b')
  expect(failure.next).toContain('doctl kubernetes cluster kubeconfig save gtc-demo')
  expect(unknownContext('mine', []).message).toContain('it has none at all')
  // A command to paste ends its line.
  expect(unknownContext('do-nyc2-gtc-demo', []).next).toMatch(/kubeconfig save gtc-demo$/)
})

test.each([
  [['a'], 'pod a has'],
  [['a', 'b'], 'pods a, b have'],
  [['a', 'b', 'c', 'd', 'e'], 'pods a, b, c and 2 more have'],
])('readers %j: %s', (readers, said) => expect(listReaders(readers)).toBe(said))
