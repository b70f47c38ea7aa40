// A Kubernetes of its own: it shares nothing with scripts/lib/quantity.mts, so that neither can hide the other's mistake.

const factors: Record<string, number> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
}

/** `1900m` -> 1.9, `3110Mi` -> bytes. */
export function quantity(text: string | number | undefined): number {
  const [, number, suffix = ''] = /^([+-]?[0-9.]+)([a-zA-Z]*)$/.exec(String(text ?? 0)) ?? []
  const factor = factors[suffix]
  if (number === undefined || factor === undefined) {
    const exponent = Number(text)
    if (Number.isFinite(exponent)) return exponent
    throw new Error(`not a quantity: ${text}`)
  }
  return Number(number) * factor
}

const binary = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei']
const decimal = ['n', 'u', 'm', '', 'k', 'M', 'G', 'T', 'P', 'E']
const NANO = 10n ** 9n

/**
 * As the real API writes a quantity back (`4096Mi` -> `4Gi`, `0.5` -> `500m`): the same amount and family of suffixes
 * with the largest suffix that leaves a whole number. Finer than a nano is rounded up; powers of two that leave a
 * fraction become decimal.
 */
export function canonicalQuantity(text: string | number): string {
  const [, sign = '', whole = '', fraction = '', suffix = ''] =
    /^([+-]?)(\d*)\.?(\d*)([a-zA-Z]*(?:(?<=[eE])[+-]?\d+)?)$/.exec(String(text).trim()) ?? []
  const digits = BigInt(`${whole}${fraction}` || '0')
  const isExponent = /\d/.test(suffix)
  const power = isExponent ? Number(suffix.slice(1)) : (decimal.indexOf(suffix) - 3) * 3
  const isBinary = suffix.endsWith('i')
  const factor = isBinary ? 1024n ** BigInt(binary.indexOf(suffix)) * NANO : 10n ** BigInt(power + 9)
  const scale = 10n ** BigInt(fraction.length)
  let amount = (digits * factor + scale - 1n) / scale
  if (isBinary && amount >= 1024n * NANO && amount % NANO === 0n) {
    let bytes = amount / NANO
    let unit = 0
    for (; bytes % 1024n === 0n && unit < binary.length - 1; unit += 1) bytes /= 1024n
    return `${sign}${bytes}${binary[unit]}`
  }
  if (amount === 0n) return '0'
  let unit = 0
  for (; amount % 1000n === 0n && unit < decimal.length - 1; unit += 1) amount /= 1000n
  const exponent = (unit - 3) * 3
  return `${sign}${amount}${isExponent ? (exponent === 0 ? '' : `e${exponent}`) : decimal[unit]}`
}
