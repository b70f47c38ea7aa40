import { formatBytes, formatSeconds } from './format.mts'
import type { Progress } from './progress.mts'

const LONGEST_BAR = 30
const SHORTEST_BAR = 8
const INDENT = 13

/** `61 %   9.8 of 16.1 GB   241 MB/s   26 s left   8 of 13 files`, without what is not known yet. */
export function progressSentence(progress: Progress): string {
  return [...factsOf(progress)].join('   ')
}

/** The same with a bar, cut to a terminal's width: the bar gets shorter, then facts go, the least telling first. */
export function progressBar(progress: Progress, columns: number): string {
  const facts = [...factsOf(progress)]
  const indent = indentAt(columns)
  if (!hasNumbers(progress)) return phaseLine(progress.phase, columns)
  const room = (kept: readonly string[]) => columns - 1 - indent - kept.join('  ').length - 2
  let kept = facts
  // Files, then the time left, then the rate: percent and bytes stay.
  while (kept.length > 2 && room(kept) < SHORTEST_BAR) kept = kept.slice(0, -1)
  const length = Math.min(LONGEST_BAR, room(kept))
  const line = length >= SHORTEST_BAR ? `${bar(progress, length)}  ${kept.join('  ')}` : kept.join('  ')
  return `${' '.repeat(indent)}${line}`.slice(0, columns - 1)
}

/** A phase without numbers. */
export function phaseLine(phase: string, columns: number): string {
  return `${' '.repeat(indentAt(columns))}${phase}`.slice(0, columns - 1)
}

function indentAt(columns: number): number {
  return columns >= 60 ? INDENT : 2
}

/** Whoever plans only looks: what is there already would read like bytes that move. */
function hasNumbers({ total, phase }: Progress): boolean {
  return total > 0 && phase !== 'planning'
}

function* factsOf(progress: Progress): Generator<string> {
  const { percent, bytes, total, bytesPerSecond, secondsLeft, files, totalFiles, phase } = progress
  if (!hasNumbers(progress)) {
    yield phase
    return
  }
  const verb = phase === 'moving' ? '' : `${phase} `
  yield `${verb}${percent} %`
  yield `${formatBytes(bytes)} of ${formatBytes(total)}`
  // The first small files of a large model: what the mover rounds to nothing would be hours left.
  if (bytesPerSecond) yield `${formatBytes(bytesPerSecond)}/s`
  if (bytesPerSecond && secondsLeft !== undefined) yield `${formatSeconds(secondsLeft)} left`
  yield `${files} of ${totalFiles} files`
}

function bar({ bytes, total }: Progress, length: number): string {
  const halves = total > 0 ? Math.floor((bytes / total) * length * 2) : 0
  const full = '━'.repeat(Math.floor(halves / 2))
  return `${full}${halves % 2 === 1 ? '╸' : ''}`.padEnd(length)
}
