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
