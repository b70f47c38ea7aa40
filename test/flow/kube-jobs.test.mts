import { describe, expect, test } from 'vitest'
import type { Job } from '../local/kube/objects.mts'
import {
  conditions,
  eventsOf,
  finished,
  holdUntilKilled,
  job,
  kubectl,
  namespace,
  ok,
  podsOf,
  read,
  ready,
  start,
  until,
  useKube,
} from './standin.mts'

useKube()

describe('a Job', () => {
  test('runs its command to the end with logs, termination message and conditions', async () => {
    const script = 'import os; open(os.environ["LOG"], "w").write("done\\n"); print("one"); print("two")'
    await ok(['apply', '-f', '-'], job('good', script))
    await finished('good')
    const { status, metadata } = await read<Job>('jobs', 'good')
    expect(await conditions('good')).toEqual(['SuccessCriteriaMet CompletionsReached', 'Complete CompletionsReached'])
    expect(status).toMatchObject({ succeeded: 1, ready: 0, terminating: 0 })
    expect(status.active).toBeUndefined()
    const [pod] = await podsOf('good')
    expect(pod?.metadata.name).toMatch(/^good-[a-z0-9]{5}$/)
    expect(pod?.metadata.labels).toMatchObject({
      app: 'test',
      'batch.kubernetes.io/job-name': 'good',
      'batch.kubernetes.io/controller-uid': metadata.uid,
    })
    expect(pod?.status.phase).toBe('Succeeded')
    expect(pod?.status.containerStatuses?.[0]?.state.terminated).toMatchObject({
      exitCode: 0,
      reason: 'Completed',
      message: 'done\n',
    })
    expect(await ok(['logs', 'job/good'])).toBe('one\ntwo\n')
    expect(await ok(['logs', '-l', 'job-name=good', '--tail=1'])).toBe('two\n')
    const stamped = await ok(['logs', 'job/good', '--timestamps'])
    expect(stamped).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z one\n/)
    expect(await ok(['logs', 'job/good', '--since-time=2099-01-01T00:00:00Z'])).toBe('')
    expect((await eventsOf('good')).map(({ reason }) => reason).sort()).toEqual(['Completed', 'SuccessfulCreate'])
  })

  test('is retried after a backoff that doubles, then fails', async () => {
    await ok(['apply', '-f', '-'], job('bad', 'raise SystemExit(1)', { spec: { backoffLimit: 2 } }))
    await finished('bad', 'failed')
    expect(await conditions('bad')).toEqual(['FailureTarget BackoffLimitExceeded', 'Failed BackoffLimitExceeded'])
    expect((await read<Job>('jobs', 'bad')).status.failed).toBe(3)
    expect((await podsOf('bad')).map(({ status }) => status.phase)).toEqual(['Failed', 'Failed', 'Failed'])
  })

  test('ends at once by its podFailurePolicy', async () => {
    const rule = { action: 'FailJob', onExitCodes: { containerName: 'mover', operator: 'In', values: [64] } }
    const spec = { backoffLimit: 3, podFailurePolicy: { rules: [rule] } }
    await ok(['apply', '-f', '-'], job('permanent', 'raise SystemExit(64)', { spec }))
    await finished('permanent', 'failed')
    const { status } = await read<Job>('jobs', 'permanent')
    expect(status.failed).toBe(1)
    expect(status.conditions?.at(-1)).toMatchObject({ type: 'Failed', reason: 'PodFailurePolicy' })
    expect(status.conditions?.at(-1)?.message).toMatch(
      /^Container mover for pod team\/permanent-\w{5} failed with exit code 64 matching FailJob rule at index 0$/,
    )
  })

  test('is stopped by its deadline, its pod with SIGTERM', async () => {
    const lines = [
      'import signal, sys, time',
      'def stop(*_):',
      '  print("stopped"); sys.exit(143)',
      'signal.signal(15, stop)',
    ]
    const script = [...lines, 'print("up")', 'time.sleep(600)'].join('\n')
    await ok(['apply', '-f', '-'], job('late', script))
    await ready('late')
    const follow = start(['logs', '-f', 'job/late'])
    await follow.says(/up/, 'stdout')
    await ok(['patch', 'job', 'late', '-p', '{"spec":{"activeDeadlineSeconds":1}}'])
    await finished('late', 'failed')
    expect(await conditions('late')).toEqual(['FailureTarget DeadlineExceeded', 'Failed DeadlineExceeded'])
    expect((await follow.outcome).stdout).toBe('up\nstopped\n')
    expect(await podsOf('late')).toEqual([])
  })

  test('is removed with its pods when its TTL is over', async () => {
    await ok(['apply', '-f', '-'], job('brief', '', { spec: { ttlSecondsAfterFinished: 0 } }))
    await until('delete', 'job/brief')
    expect(await podsOf('brief')).toEqual([])
  })

  test('deleted in the foreground is gone only after its pods', async () => {
    await ok(['apply', '-f', '-'], job('front', holdUntilKilled))
    await ready('front')
    await ok(['delete', 'job', 'front', '--cascade=foreground'])
    expect(await podsOf('front')).toEqual([])
  })

  test('deleted by its uid is the one that was looked at', async () => {
    await ok(['apply', '-f', '-'], job('exact', holdUntilKilled))
    await ready('exact')
    const uid = await ok(['get', 'job', 'exact', '-o', 'jsonpath={.metadata.uid}'])
    const url = `/apis/batch/v1/namespaces/${namespace}/jobs/exact`
    const options = (wanted: string) => ({
      kind: 'DeleteOptions',
      apiVersion: 'v1',
      propagationPolicy: 'Foreground',
      preconditions: { uid: wanted },
    })
    const other = await kubectl(['delete', '--raw', url, '-f', '-'], options('somebody-else'))
    expect(other).toMatchObject({ code: 1 })
    expect(other.stderr).toContain(
      'Error from server (Conflict): Operation cannot be fulfilled on Job.batch "exact": the UID',
    )
    const marked = JSON.parse(await ok(['delete', '--raw', url, '-f', '-'], options(uid))) as Job
    expect(marked.metadata).toMatchObject({ uid, finalizers: ['foregroundDeletion'] })
    await until('delete', 'job/exact')
    expect(await podsOf('exact')).toEqual([])
  })

  test('cannot get another template', async () => {
    await ok(['apply', '-f', '-'], job('fixed', ''))
    const { code, stderr } = await kubectl(['apply', '-f', '-'], job('fixed', 'print(2)'))
    expect(code).toBe(1)
    expect(stderr).toMatch(
      /^The Job "fixed" is invalid: spec\.template: Invalid value: core\.PodTemplateSpec\{.*field is immutable\n$/,
    )
  })

  test('with indexes runs each of them once', async () => {
    const script = 'import os; print(os.environ["JOB_COMPLETION_INDEX"])'
    await ok(
      ['apply', '-f', '-'],
      job('shards', script, { spec: { completionMode: 'Indexed', completions: 3, parallelism: 2 } }),
    )
    await finished('shards')
    expect((await read<Job>('jobs', 'shards')).status).toMatchObject({ succeeded: 3, completedIndexes: '0-2' })
    expect((await ok(['logs', '-l', 'job-name=shards'])).trim().split('\n').sort()).toEqual(['0', '1', '2'])
  })
})
