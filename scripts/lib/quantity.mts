const UNITS: Record<string, number> = {
  m: 1e-3,
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
}

/** A Kubernetes quantity (`50Gi`, `1.5G`, `1e9`) as a number, or undefined when it is none. Exact up to 2^53. */
export function parseQuantity(text: string): number | undefined {
  const match = /^(\d+(?:\.\d*)?|\.\d+)(?:([eE][+-]?\d+)|(m|k|[MGTPE]i?|Ki)?)$/.exec(text)
  if (!match) return undefined
  return Number(`${match[1]}${match[2] ?? ''}`) * (UNITS[match[3] ?? ''] ?? 1)
}

/** The same text for the same amount: `4096Mi` and `4294967296` are `4Gi`. */
export function canonicalQuantity(text: string): string {
  let amount = parseQuantity(text)
  if (!amount) return text
  const units = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei']
  for (; amount % 1024 === 0 && units.length > 1; amount /= 1024) units.shift()
  return `${amount}${units[0]}`
}
