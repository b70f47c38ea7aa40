import { describe, expect, test } from 'vitest'
import { applyPatch, type Json, jsonPatch, mergePatch, strategicMergePatch } from '../local/kube/patch.mts'
import { quantity } from '../local/kube/quantity.mts'
import { labelSelector } from '../local/kube/selectors.mts'

describe('a merge patch', () => {
  test.each<[string, Json, Json, Json]>([
    ['sets', { a: 1 }, { b: 2 }, { a: 1, b: 2 }],
    ['removes with null', { a: 1, b: 2 }, { a: null }, { b: 2 }],
    ['goes into objects', { a: { b: 1, c: 2 } }, { a: { b: null, d: 3 } }, { a: { c: 2, d: 3 } }],
    ['replaces lists', { a: [1, 2] }, { a: [3] }, { a: [3] }],
  ])('%s', (_, target, patch, result) => expect(mergePatch(target, patch)).toEqual(result))
})

describe('a JSON patch', () => {
  test.each<[string, Json, Json, Json]>([
    ['adds', { a: {} }, [{ op: 'add', path: '/a/b', value: 1 }], { a: { b: 1 } }],
    ['adds into lists', { a: [1, 3] }, [{ op: 'add', path: '/a/1', value: 2 }], { a: [1, 2, 3] }],
    ['appends to lists', { a: [1] }, [{ op: 'add', path: '/a/-', value: 2 }], { a: [1, 2] }],
    ['removes', { a: { b: 1, c: 2 } }, [{ op: 'remove', path: '/a/b' }], { a: { c: 2 } }],
    ['unescapes', { 'x/y~z': 1 }, [{ op: 'replace', path: '/x~1y~0z', value: 2 }], { 'x/y~z': 2 }],
    ['moves', { a: 1 }, [{ op: 'move', from: '/a', path: '/b' }], { b: 1 }],
    [
      'goes on when a test holds',
      { a: 1 },
      [
        { op: 'test', path: '/a', value: 1 },
        { op: 'remove', path: '/a' },
      ],
      {},
    ],
  ])('%s', (_, target, patch, result) => expect(jsonPatch(target, patch)).toEqual(result))

  test.each<[string, Json]>([
    ['a test that fails', [{ op: 'test', path: '/a', value: 2 }]],
    ['a path that is missing', [{ op: 'remove', path: '/b' }]],
    ['a parent that is missing', [{ op: 'add', path: '/b/c', value: 1 }]],
  ])('is refused with %s', (_, patch) =>
    expect(() => jsonPatch({ a: 1 }, patch)).toThrow('the server rejected our request'),
  )
})

describe('a strategic merge patch', () => {
  const pod = { containers: [{ name: 'a', image: '1' }, { name: 'b' }], tolerations: [{ key: 'x' }], finalizers: ['f'] }

  test.each<[string, Json, Json]>([
    [
      'merges lists by their key',
      { containers: [{ name: 'a', image: '2' }] },
      { ...pod, containers: [{ name: 'a', image: '2' }, { name: 'b' }] },
    ],
    [
      'deletes items by their key',
      { containers: [{ name: 'a', $patch: 'delete' }] },
      { ...pod, containers: [{ name: 'b' }] },
    ],
    ['replaces lists without a key', { tolerations: [{ key: 'y' }] }, { ...pod, tolerations: [{ key: 'y' }] }],
    ['adds to sets', { finalizers: ['g', 'f'] }, { ...pod, finalizers: ['f', 'g'] }],
    ['deletes from sets', { '$deleteFromPrimitiveList/finalizers': ['f'] }, { ...pod, finalizers: [] }],
    [
      'orders lists',
      { '$setElementOrder/containers': [{ name: 'b' }, { name: 'a' }], containers: [{ name: 'b', image: '3' }] },
      {
        ...pod,
        containers: [
          { name: 'b', image: '3' },
          { name: 'a', image: '1' },
        ],
      },
    ],
    ['replaces an object when told to', { $patch: 'replace', finalizers: ['z'] }, { finalizers: ['z'] }],
  ])('%s', (_, patch, result) => expect(strategicMergePatch(pod, patch)).toEqual(result))
})

test('server-side apply removes what its manager no longer names, and nothing else', () => {
  const present = {
    data: { mine: '1', old: '2', theirs: '3' },
    env: [{ name: 'MINE' }, { name: 'OLD' }, { name: 'THEIRS' }],
  }
  const previous = { data: { mine: '1', old: '2' }, env: [{ name: 'MINE' }, { name: 'OLD' }] }
  const applied = { data: { mine: '4' }, env: [{ name: 'MINE' }] }
  expect(applyPatch(present, applied, previous)).toEqual({
    data: { mine: '4', theirs: '3' },
    env: [{ name: 'MINE' }, { name: 'THEIRS' }],
  })
})

test.each([
  ['', true],
  ['a=1', true],
  ['a==1,b!=1', true],
  ['a in (0, 1),b notin (1)', true],
  ['a,!c', true],
  ['a!=1', false],
  ['c=1', false],
  ['c in (1)', false],
  ['c notin (1)', true],
  ['!a', false],
])('the label selector %j', (text, chosen) => {
  const metadata = { name: 'x', uid: '', resourceVersion: '', creationTimestamp: '', labels: { a: '1', b: '2' } }
  expect(labelSelector(text)({ apiVersion: 'v1', kind: 'Pod', metadata })).toBe(chosen)
})

test.each([
  ['1900m', 1.9],
  ['3110Mi', 3110 * 2 ** 20],
  ['2', 2],
  ['1e3', 1000],
  ['1.5G', 1.5e9],
])('the quantity %s', (text, value) => expect(quantity(text)).toBeCloseTo(value))
