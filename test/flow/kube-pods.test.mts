import { describe, expect, test } from 'vitest'
import { python } from '../local/cluster.mts'
import type { Job } from '../local/kube/objects.mts'
import { finished, job, kube, kubectl, ok, podEvent, podsOf, read, ready, start, useKube, waiting } from './standin.mts'

useKube()

describe('a pod', () => {
  test('has the environment, the files and the paths of its manifest, and nothing else', async () => {
    await ok(['create', 'secret', 'generic', 'credentials', '--from-literal=TOKEN=s3cret'])
    await ok([
      'create',
      'cm',
      'program',
      '--from-literal=main.py=import sys, os, json; print(json.dumps([sys.argv, dict(os.environ)]))',
    ])
    const shape = {
      pod: { volumes: [{ name: 'program', configMap: { name: 'program' } }] },
      container: {
        command: ['python', '/program/main.py', '$(GREETING)', '$$(GREETING)'],
        env: [
          { name: 'NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
          {
            name: 'UID',
            valueFrom: { fieldRef: { fieldPath: "metadata.labels['batch.kubernetes.io/controller-uid']" } },
          },
          { name: 'ONE', valueFrom: { secretKeyRef: { name: 'credentials', key: 'TOKEN' } } },
          { name: 'GREETING', value: 'hello $(ONE)' },
          { name: 'FOLDER', value: '/program/sub' },
        ],
        envFrom: [{ secretRef: { name: 'credentials' } }, { secretRef: { name: 'none', optional: true } }],
        volumeMounts: [{ name: 'program', mountPath: '/program', readOnly: true }],
      },
    }
    await ok(['apply', '-f', '-'], job('fed', '', shape))
    await finished('fed')
    const [argv, seen] = JSON.parse(await ok(['logs', 'job/fed'])) as [string[], Record<string, string>]
    const [pod] = await podsOf('fed')
    const { uid } = (await read<Job>('jobs', 'fed')).metadata
    // Local paths are named in the log as the container would name them.
    expect(argv).toEqual(['/program/main.py', 'hello s3cret', '$(GREETING)'])
    expect(seen).toMatchObject({
      NAME: pod?.metadata.name,
      UID: uid,
      ONE: 's3cret',
      TOKEN: 's3cret',
      FOLDER: '/program/sub',
    })
    const own = ['FOLDER', 'GREETING', 'NAME', 'ONE', 'TOKEN', 'UID']
    const basic = ['HOME', 'HOSTNAME', 'LANG', 'PATH', 'TMPDIR']
    // sh and python add two of their own to any environment.
    expect(
      Object.keys(seen)
        .filter((name) => !['PWD', 'LC_CTYPE'].includes(name))
        .sort(),
    ).toEqual([...own, ...basic].sort())
    expect(seen.PATH?.split(':')[0]).toBe(python)
  })

  test('waits for a ConfigMap that is missing, and starts when it comes', async () => {
    const shape = {
      pod: { volumes: [{ name: 'v', configMap: { name: 'later' } }] },
      container: { volumeMounts: [{ name: 'v', mountPath: '/v' }] },
    }
    await ok(['apply', '-f', '-'], job('mountless', '', shape))
    expect(await waiting('mountless', 'ContainerCreating')).toBeUndefined()
    const message = 'MountVolume.SetUp failed for volume "v" : configmap "later" not found'
    expect(await podEvent('mountless', 'FailedMount')).toBe(message)
    expect((await kubectl(['logs', 'job/mountless'])).stderr).toContain('is waiting to start: ContainerCreating')
    await ok(['create', 'cm', 'later'])
    await finished('mountless')
  })

  test('has the files of several ConfigMaps in one folder, and waits for each', async () => {
    const sources = ['first', 'second'].map((name) => ({ configMap: { name } }))
    const shape = {
      pod: { volumes: [{ name: 'v', projected: { sources } }] },
      container: { command: ['cat', '/v/one', '/v/two'], volumeMounts: [{ name: 'v', mountPath: '/v' }] },
    }
    await ok(['create', 'cm', 'first', '--from-literal=one=1'])
    await ok(['apply', '-f', '-'], job('projected', '', shape))
    const message = 'MountVolume.SetUp failed for volume "v" : configmap "second" not found'
    expect(await podEvent('projected', 'FailedMount')).toBe(message)
    await ok(['create', 'cm', 'second', '--from-literal=two=2'])
    await finished('projected')
    expect(await ok(['logs', 'job/projected'])).toBe('12')
  })

  test('waits for a Secret that is missing, and starts when it comes', async () => {
    await ok(['apply', '-f', '-'], job('keyless', '', { container: { envFrom: [{ secretRef: { name: 'coming' } }] } }))
    expect(await waiting('keyless', 'CreateContainerConfigError')).toBe('secret "coming" not found')
    await ok(['create', 'secret', 'generic', 'coming'])
    await finished('keyless')
  })

  test('waits for an image that cannot be pulled, and starts when it can', async () => {
    await ok(['apply', '-f', '-'], job('imageless', '', { container: { image: 'python:9.99' } }))
    const message = await waiting('imageless', 'ImagePullBackOff')
    expect(message).toMatch(/^Back-off pulling image "python:9\.99": ErrImagePull: .*not found$/)
    kube.faults.setImage('python:9.99', true)
    await finished('imageless')
  })

  test('that no node can take says why, and starts when one can', async () => {
    await ok(['apply', '-f', '-'], job('huge', '', { container: { resources: { requests: { memory: '4Gi' } } } }))
    const [pod] = await podsOf('huge')
    expect(pod?.status.conditions).toEqual([
      expect.objectContaining({
        type: 'PodScheduled',
        status: 'False',
        reason: 'Unschedulable',
        message:
          '0/3 nodes are available: 1 node(s) had untolerated taint {nvidia.com/gpu: }, 2 Insufficient memory. preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod.',
      }),
    ])
    kube.faults.editNode('pool-s2vcpu4gb-1', ({ status }) => {
      status.allocatable.memory = '8Gi'
    })
    await finished('huge')
  })

  test('whose command is not there fails to start', async () => {
    await ok(['apply', '-f', '-'], job('lost', '', { container: { command: ['/nope'] } }))
    await finished('lost', 'failed')
    const [pod] = await podsOf('lost')
    expect(pod?.status.containerStatuses?.[0]?.state.terminated).toMatchObject({
      exitCode: 128,
      reason: 'StartError',
    })
  })

  test('that does not stop is killed after its grace period', async () => {
    const script = 'import signal, time; signal.signal(15, signal.SIG_IGN); print("up"); time.sleep(600)'
    await ok(['apply', '-f', '-'], job('stubborn', script, { pod: { terminationGracePeriodSeconds: 1 } }))
    const follow = start(['logs', '-f', `pod/${await ready('stubborn')}`])
    await follow.says(/up/, 'stdout')
    const deletion = await kubectl(['delete', 'pod', '-l', 'job-name=stubborn'])
    expect(deletion.code).toBe(0)
    expect(deletion.seconds).toBeGreaterThan(0.9)
    await finished('stubborn', 'failed')
  })
})
