import { expect, test } from 'vitest'
import { canonicalQuantity } from '../local/kube/quantity.mts'

// As Kubernetes' own decoder writes them: `kubectl set image --local -o yaml` of a pod that asks for so much.
test.each([
  ['4096Mi', '4Gi'],
  ['0.5Gi', '512Mi'],
  ['1536Mi', '1536Mi'],
  ['1.5Gi', '1536Mi'],
  ['1024Ki', '1Mi'],
  ['1.1Ki', '1126400m'],
  ['0.5Ki', '512'],
  ['4096M', '4096M'],
  ['4000M', '4G'],
  ['4294967296', '4294967296'],
  ['1500', '1500'],
  ['1000', '1k'],
  ['0.5', '500m'],
  ['1.5', '1500m'],
  ['2000m', '2'],
  ['1e3', '1e3'],
  ['12e6', '12e6'],
  ['1e2', '100'],
  ['-5', '-5'],
  ['1e4', '10e3'],
  ['1.0000000001', '1000000001n'],
  ['2.5Gi', '2560Mi'],
  ['0', '0'],
  ['0Gi', '0'],
  ['3Gi', '3Gi'],
])('%s is stored as %s', (written, stored) => expect(canonicalQuantity(written)).toBe(stored))

test('a number is one as well', () => expect(canonicalQuantity(2)).toBe('2'))
