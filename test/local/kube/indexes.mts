/** `0-2,5` -> [0, 1, 2, 5]: a Job's completedIndexes. */
export function expandIndexes(text: string | undefined): number[] {
  return (text ?? '')
    .split(',')
    .filter((part) => part !== '')
    .flatMap((part) => {
      const [first = 0, last = first] = part.split('-').map(Number)
      return Array.from({ length: last - first + 1 }, (_, offset) => first + offset)
    })
}

/** [0, 1, 2, 5] -> `0-2,5`; two in a row are written `0,1` as the real controller does. */
export function formatIndexes(indexes: number[]): string {
  const runs: [number, number][] = []
  for (const index of [...indexes].sort((a, b) => a - b)) {
    const run = runs.at(-1)
    if (run && run[1] === index - 1) run[1] = index
    else runs.push([index, index])
  }
  const format = ([first, last]: [number, number]) =>
    last === first ? first : last === first + 1 ? `${first},${last}` : `${first}-${last}`
  return runs.map(format).join(',')
}
