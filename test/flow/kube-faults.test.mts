import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import type { Job, Node, Pod } from '../local/kube/objects.mts'
import {
  conditions,
  dir,
  eventsOf,
  finished,
  holdUntilKilled,
  job,
  kube,
  kubectl,
  namespace,
  ok,
  podEvent,
  podsOf,
  read,
  ready,
  start,
  until,
  useKube,
  waiting,
} from './standin.mts'

useKube()

describe('trouble on purpose', () => {
  afterEach(() => kube.deny())

  test('the API goes away and comes back, pods go on', async () => {
    const gate = path.join(dir, 'gate')
    const script = `import os, time\nprint("up")\nwhile not os.path.exists(${JSON.stringify(gate)}): time.sleep(0.05)`
    await ok(['apply', '-f', '-'], job('through', script))
    await ready('through')
    const follow = start(['logs', '-f', 'job/through'])
    await follow.says(/up/, 'stdout')
    await kube.stopApi()
    expect(await follow.outcome).toMatchObject({ code: 1, stderr: expect.stringContaining('unexpected EOF') })
    expect((await kubectl(['get', 'job', 'through'])).stderr).toContain('was refused')
    await writeFile(gate, '')
    await kube.startApi()
    await finished('through')
  })

  test('permissions are denied, in answers and in reviews', async () => {
    kube.deny({ verbs: ['get', 'list', 'watch'], resources: ['persistentvolumes'] })
    const { code, stderr } = await kubectl(['get', 'pv', 'share'])
    expect([code, stderr]).toEqual([
      1,
      'Error from server (Forbidden): persistentvolumes "share" is forbidden: User "kubernetes-admin" cannot get resource "persistentvolumes" in API group "" at the cluster scope\n',
    ])
    const ask = { apiVersion: 'authorization.k8s.io/v1', kind: 'SelfSubjectRulesReview', spec: { namespace } }
    const review = JSON.parse(await ok(['create', '-o', 'json', '-f', '-'], ask)) as {
      status: { resourceRules: { verbs: string[]; resources: string[] }[] }
    }
    const rules = review.status.resourceRules.filter(({ resources }) => resources.includes('persistentvolumes'))
    expect(rules.map(({ verbs }) => verbs)).toEqual([['create', 'delete', 'patch', 'update']])
    expect((await kubectl(['auth', 'can-i', 'list', 'persistentvolumes'])).stdout).toBe('no\n')
    expect((await kubectl(['auth', 'can-i', 'create', 'jobs.batch'])).stdout).toBe('yes\n')
  })

  test('a container is OOMKilled', async () => {
    await ok(['apply', '-f', '-'], job('greedy', holdUntilKilled))
    kube.faults.killPod(namespace, await ready('greedy'), 'OOMKilled')
    await finished('greedy', 'failed')
    const [pod] = await podsOf('greedy')
    expect(pod?.status.containerStatuses?.[0]?.state.terminated).toMatchObject({ exitCode: 137, reason: 'OOMKilled' })
  })

  test('a pod is evicted for its node, and that costs no retry when the policy ignores it', async () => {
    const rule = { action: 'Ignore', onPodConditions: [{ type: 'DisruptionTarget', status: 'True' }] }
    await ok(['apply', '-f', '-'], job('moved', holdUntilKilled, { spec: { podFailurePolicy: { rules: [rule] } } }))
    const first = await ready('moved')
    kube.faults.evictPod(namespace, first, 'The node was low on resource: memory.', true)
    await until('jsonpath={.status.phase}=Failed', `pod/${first}`)
    expect((await read<Pod>('pods', first)).status).toMatchObject({
      reason: 'Evicted',
      message: 'The node was low on resource: memory.',
    })
    await until('jsonpath={.status.active}=1', 'job/moved')
    expect((await read<Job>('jobs', 'moved')).status.failed).toBeUndefined()
    await ok(['delete', 'job', 'moved'])
  })

  test('a node is cut off: its pod is replaced, and the Job ends when the node is back', async () => {
    const gate = path.join(dir, 'second')
    const script = `import os, time\nprint("up")\nif not os.path.exists(${JSON.stringify(gate)}): time.sleep(600)`
    await ok(['apply', '-f', '-'], job('cut', script, { spec: { backoffLimit: 1 } }))
    const first = await ready('cut')
    const { nodeName = '' } = (await read<Pod>('pods', first)).spec
    kube.faults.cutNode(nodeName, { power: false })
    expect((await read<Node>('nodes', nodeName)).status.conditions.find(({ type }) => type === 'Ready')?.status).toBe(
      'Unknown',
    )
    await writeFile(gate, '')
    kube.faults.evictFromNode(nodeName)
    await until('condition=SuccessCriteriaMet', 'job/cut')
    expect(await conditions('cut')).toEqual(['SuccessCriteriaMet CompletionsReached'])
    expect((await read<Job>('jobs', 'cut')).status).toMatchObject({ succeeded: 1, terminating: 1 })
    kube.faults.restoreNode(nodeName)
    await finished('cut')
  })

  test('the scheduler and the kubelet take their time', async () => {
    kube.faults.pauseScheduler(true)
    kube.faults.delay({ pull: 600_000 })
    await ok(['apply', '-f', '-'], job('slow', ''))
    expect((await podsOf('slow'))[0]?.status).toEqual({ phase: 'Pending', qosClass: 'BestEffort' })
    kube.faults.pauseScheduler(false)
    expect(await waiting('slow', 'ContainerCreating')).toBeUndefined()
    expect(await podEvent('slow', 'Pulling')).toBe('Pulling image "python:3.11-slim"')
    await ok(['delete', 'job', 'slow', '--cascade=foreground'])
    kube.faults.delay({ pull: 0 })
  })

  test('pods are refused, as by a quota', async () => {
    kube.faults.refusePods('exceeded quota: team')
    await ok(['apply', '-f', '-'], job('refused', ''))
    const [event] = await eventsOf('refused')
    expect(event).toMatchObject({
      reason: 'FailedCreate',
      message: 'Error creating: pods "refused-" is forbidden: exceeded quota: team',
    })
    kube.faults.refusePods(undefined)
    await finished('refused')
  })
})
