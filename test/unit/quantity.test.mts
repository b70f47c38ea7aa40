import { expect, test } from 'vitest'
import { canonicalQuantity } from '../../scripts/lib/quantity.mts'

test.each([
  ['4096Mi', '4Gi'],
  ['4Gi', '4Gi'],
  ['0.5Gi', '512Mi'],
  ['1536Mi', '1536Mi'],
  ['2147483648', '2Gi'],
  ['3G', '3000000000'],
  ['0', '0'],
  ['much', 'much'],
])('%s is the same as %s', (text, same) => expect(canonicalQuantity(text)).toBe(same))
