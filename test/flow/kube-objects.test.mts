import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { dir, job, kubectl, namespace, ok, read, start, unknownCalls, until, useKube, volume } from './standin.mts'

useKube()

describe('objects', () => {
  test('are applied on the client side, changed, and left alone when nothing differs', async () => {
    const map = (data: Record<string, string>) => ({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'applied', namespace },
      data,
    })
    expect(await ok(['apply', '-f', '-'], map({ a: '1', b: '2' }))).toBe('configmap/applied created\n')
    expect(await ok(['apply', '-f', '-'], map({ a: '1', b: '2' }))).toBe('configmap/applied unchanged\n')
    expect(await ok(['apply', '-f', '-'], map({ a: '3' }))).toBe('configmap/applied configured\n')
    expect(await ok(['get', 'cm', 'applied', '-o', 'jsonpath={.data}'])).toBe('{"a":"3"}')
  })

  test('are applied on the server side, with removal of what is no longer named', async () => {
    const map = (data: Record<string, string>) => ({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'served', namespace },
      data,
    })
    await ok(['apply', '--server-side', '-f', '-'], map({ a: '1', b: '2' }))
    expect(await ok(['apply', '--server-side', '-f', '-'], map({ a: '3' }))).toBe(
      'configmap/served serverside-applied\n',
    )
    expect(await ok(['get', 'cm', 'served', '-o', 'jsonpath={.data}'])).toBe('{"a":"3"}')
  })

  test('are made from the command line, which sends protobuf', async () => {
    await ok(['create', 'secret', 'generic', 'keys', '--from-literal=TOKEN=t', '--from-literal=EMPTY='])
    expect(await ok(['get', 'secret', 'keys', '-o', 'jsonpath={.type} {.data.TOKEN} {.data.EMPTY}'])).toBe(
      'Opaque dA== ',
    )
    await ok(['create', 'namespace', 'another'])
    await ok(['delete', 'namespace', 'another'])
    expect((await kubectl(['get', 'namespace', 'another'])).stderr).toContain('namespaces "another" not found')
  })

  test('of a kustomization are applied, a ConfigMap of files', async () => {
    const folder = path.join(dir, 'kustomization')
    await mkdir(folder)
    await writeFile(path.join(folder, 'mover.py'), 'print(1)\n')
    const lines = [
      'configMapGenerator:',
      '- name: files',
      '  files: [mover.py]',
      'generatorOptions: {disableNameSuffixHash: true}',
    ]
    await writeFile(path.join(folder, 'kustomization.yaml'), lines.join('\n'))
    expect(await ok(['apply', '-k', folder])).toBe('configmap/files created\n')
    expect((await read<{ data: unknown }>('configmaps', 'files')).data).toEqual({ 'mover.py': 'print(1)\n' })
  })

  test('that are immutable stay so', async () => {
    await ok(['create', '-f', '-'], {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'sealed', namespace },
      immutable: true,
      data: { a: '1' },
    })
    const { code, stderr } = await kubectl(['patch', 'cm', 'sealed', '--type', 'merge', '-p', '{"data":{"a":"2"}}'])
    expect([code, stderr]).toEqual([
      1,
      'The ConfigMap "sealed" is invalid: data: Forbidden: field is immutable when `immutable` is set\n',
    ])
  })

  test('that are absent are NotFound, and nothing at all when asked so', async () => {
    const { code, stderr } = await kubectl(['get', 'job', 'absent', '-o', 'json'])
    expect([code, stderr]).toEqual([1, 'Error from server (NotFound): jobs.batch "absent" not found\n'])
    expect(await ok(['get', 'job', 'absent', '--ignore-not-found', '-o', 'json'])).toBe('')
    expect(await ok(['delete', 'job', 'absent', '--ignore-not-found'])).toBe('')
  })

  test('are changed by JSON patch when its test holds, and only then', async () => {
    await ok(
      ['apply', '-f', '-'],
      volume('patched', { claimRef: { namespace, name: 'gone', uid: 'old' }, nfs: { server: 's', path: '/p' } }),
    )
    await until('jsonpath={.status.phase}=Released', 'pv/patched')
    const version = await ok(['get', 'pv', 'patched', '-o', 'jsonpath={.metadata.resourceVersion}'])
    const patch = (value: string) =>
      kubectl([
        'patch',
        'pv',
        'patched',
        '--type',
        'json',
        '-p',
        JSON.stringify([
          { op: 'test', path: '/metadata/resourceVersion', value },
          { op: 'remove', path: '/spec/claimRef' },
        ]),
      ])
    expect(await patch('1')).toMatchObject({
      code: 1,
      stderr: 'The request is invalid: the server rejected our request due to an error in our request\n',
    })
    expect(await patch(version)).toMatchObject({ code: 0 })
    await until('jsonpath={.status.phase}=Available', 'pv/patched')
    await ok(['delete', 'pv', 'patched'])
  })

  test('conflict when the version they were read at is no longer theirs', async () => {
    await ok(['create', 'cm', 'contested', '--from-literal=a=1'])
    const old = await read<{ metadata: unknown }>('configmaps', 'contested')
    await ok(['annotate', 'cm', 'contested', 'seen=yes'])
    const { code, stderr } = await kubectl(['replace', '-f', '-'], old)
    expect(code).toBe(1)
    expect(stderr).toContain('Operation cannot be fulfilled on configmaps "contested": the object has been modified')
  })

  test('are told to watches as they change', async () => {
    const watch = start(['get', 'cm', '-w', '-l', 'watched=yes', '-o', 'jsonpath={.metadata.name}={.data.a};'])
    await ok(['apply', '-f', '-'], {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'seen', namespace, labels: { watched: 'yes' } },
      data: { a: '1' },
    })
    await watch.says(/seen=1;/, 'stdout')
    await ok(['patch', 'cm', 'seen', '-p', '{"data":{"a":"2"}}'])
    await watch.says(/seen=2;/, 'stdout')
    watch.signal('SIGTERM')
    await watch.outcome
  })

  test.each([
    [
      'A_b',
      { name: 'A_b' },
      'The Job "A_b" is invalid: metadata.name: Invalid value: "A_b": a lowercase RFC 1123 subdomain',
    ],
    ['a long name', { name: 'a'.repeat(64) }, '* spec.template.labels: Invalid value: "aaaa'],
  ])('refuse %s as a name', async (_, metadata, message) => {
    const { code, stderr } = await kubectl(['apply', '--dry-run=server', '-f', '-'], {
      ...job('x', ''),
      metadata: { ...metadata, namespace },
    })
    expect(code).toBe(1)
    expect(stderr).toContain(message)
  })

  test('refuse unknown fields and wrong types', async () => {
    const { stderr } = await kubectl(
      ['apply', '-f', '-'],
      job('x', '', { spec: { retries: 1 }, container: { imagge: 'y' } }),
    )
    expect(stderr).toContain(
      'strict decoding error: unknown field "spec.retries", unknown field "spec.template.spec.containers[0].imagge"',
    )
    expect((await kubectl(['apply', '-f', '-'], job('x', '', { spec: { backoffLimit: '3' } }))).stderr).toContain(
      'json: cannot unmarshal string into Go struct field JobSpec.spec.backoffLimit of type int32',
    )
  })

  test('refuse to be applied when the manifest outgrows the annotation that keeps it', async () => {
    const metadata = { name: 'big', namespace }
    const big = { apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { a: 'x'.repeat(262_144) } }
    const { stderr } = await kubectl(['apply', '-f', '-'], big)
    expect(stderr).toBe(
      'The ConfigMap "big" is invalid: metadata.annotations: Too long: may not be more than 262144 bytes\n',
    )
    await ok(['apply', '--server-side', '-f', '-'], big)
  })

  test('are only tried by a dry run on the server', async () => {
    expect(await ok(['apply', '--dry-run=server', '-f', '-'], job('tried', ''))).toBe(
      'job.batch/tried created (server dry run)\n',
    )
    expect(await ok(['get', 'job', 'tried', '--ignore-not-found'])).toBe('')
  })

  test('that the stand-in does not know it refuses and notes down', async () => {
    const { code, stderr } = await kubectl(['get', '--raw', '/apis/apps/v1/deployments'])
    expect([code, stderr]).toEqual([
      1,
      'Error from server (NotFound): the server could not find the requested resource\n',
    ])
    expect(
      (await kubectl(['create', '-f', '-'], job('limited', '', { spec: { backoffLimitPerIndex: 1 } }))).stderr,
    ).toContain('NotImplemented')
    expect(unknownCalls()).toEqual([
      'GET /apis/apps/v1/deployments',
      `POST /apis/batch/v1/namespaces/${namespace}/jobs`,
    ])
  })
})
