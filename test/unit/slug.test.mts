import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { modelProblem, slugOf } from '../../scripts/lib/model.mts'

const LONGEST_PREFIX = 'model-upload-spaces-'
const LONGEST_SUFFIX = '-999'
const label = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/
const hash = (id: string) => createHash('sha256').update(id).digest('hex').slice(0, 6)
const a96 = 'A'.repeat(96)
const dots96 = `x${'.'.repeat(94).replaceAll('..', '._')}y`

describe('a slug', () => {
  test.each([
    ['meta-llama/Llama-3.1-8B-Instruct', 'meta-llama--llama-3-1-8b-instruct'],
    ['gpt2', 'gpt2'],
    ['Org/M.1', 'org--m-1'],
    ['org/m-1', 'org--m-1'],
    ['google/gemma-2-9b-it', 'google--gemma-2-9b-it'],
    ['_under/score_', 'under--score'],
    ['_', hash('_')],
    ['_/_', hash('_/_')],
    ['x'.repeat(39), 'x'.repeat(39)],
    ['x'.repeat(40), `${'x'.repeat(32)}-${hash('x'.repeat(40))}`],
    [`${a96}/${a96}`, `${'a'.repeat(32)}-${hash(`${a96}/${a96}`)}`],
  ])('of %s is %s', (id, slug) => expect(slugOf(id)).toBe(slug))

  test.each([a96, `${a96}/${a96}`, 'gpt2', '_', `${'o'.repeat(30)}/M`, dots96, `${'a'.repeat(31)}.${'b'.repeat(20)}`])(
    'of %s makes a name that a pod may bear',
    (id) => {
      expect(modelProblem(id)).toBeUndefined()
      const name = LONGEST_PREFIX + slugOf(id) + LONGEST_SUFFIX
      expect(name).toMatch(label)
      expect(name.length).toBeLessThanOrEqual(63)
      expect(slugOf(id)).toMatch(label)
    },
  )

  test('of ids that differ only behind the cut differs', () => {
    const ids = Array.from({ length: 500 }, (_, i) => `organisation/a-model-with-a-rather-long-name-${i}`)
    expect(new Set(ids.map(slugOf)).size).toBe(ids.length)
  })
})

describe('a model id', () => {
  test.each(['gpt2', 'a/b', 'Org/M.1', `${a96}/${a96}`, '_x/y_', 'a-b.c_d/e-f.g_h', '0/1e5'])('%s is one', (id) =>
    expect(modelProblem(id)).toBeUndefined(),
  )

  test.each([
    ['', 'empty'],
    ['https://huggingface.co/gpt2', 'the id of its model is gpt2'],
    ['https://huggingface.co/openai/gpt-oss-20b/tree/main?x=y', 'the id of its model is openai/gpt-oss-20b'],
    ['huggingface.co/gpt2/blob/main/config.json', 'the id of its model is gpt2'],
    ['https://huggingface.co/a b', 'two segments'],
    ['a b', 'has a space'],
    ['../x/y', 'two segments'],
    ['x/y; rm -rf /', 'two segments'],
    ['x;y', 'each part'],
    ['x/$(touch f)', 'has a space'],
    ['x/y/z', 'two segments'],
    ['/x', 'each part'],
    ['x/', 'each part'],
    ['-x/y', 'each part'],
    ['x/y-', 'each part'],
    ['.x/y', 'each part'],
    ['x/y.', 'each part'],
    ['a--b/c', '--'],
    ['a/b..c', '..'],
    ['a/b.git', '.git'],
    [`${a96}B`, 'each part'],
    ['x\n', 'has a space'],
    ['x\0y', 'each part'],
    ['ä/b', 'each part'],
  ])('%j is none', (id, why) => expect(modelProblem(id)).toContain(why))
})
