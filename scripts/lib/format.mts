/** `16.1 GB`: decimal, as disks, links and buckets are sold. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let value = bytes
  let unit = 0
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000
    unit += 1
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}

/** `65 s`, `4 min 10 s`, `2 h 5 min`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  if (whole < 120) return `${whole} s`
  if (whole < 7200) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`
}

/** Control characters but tabs as `\x1b`: a name on the share or a line of a log must not draw lines of ours. */
export function formatPrintable(text: string): string {
  return text.replaceAll(/[^\P{Cc}\t]/gu, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`)
}

/** `1 file`, `13 files`. */
export function formatCount(number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`
}

/** `a, b, c and 7 more`: the first `shown` names. */
export function formatList(names: readonly string[], shown: number): string {
  return names.length > shown
    ? `${names.slice(0, shown).join(', ')} and ${names.length - shown} more`
    : names.join(', ')
}

/** What has to stay in one piece to be pasted: a command of kubectl or of ours to the end of its clause, a make target with its variables. */
const COMMAND =
  /\(?(?:kubectl (?:--context|config) |\S*\/scripts\/[\w-]+\.mts)[^;]*?(?=; |: it |, (?:and|or|then) | (?:lists|tells|and|or|says|for this|with|first)\b|$)|make [a-z-]+(?: [A-Z_]+=(?:\$'(?:\\.|[^'\\])*'|'[^']*'|[^\s'])+)*/
    .source

const ATOM = new RegExp(`(?:${COMMAND})\\S*|\\S+`, 'g')

/** A line broken at words; what is longer than the width, such as a command, gets a line of its own and stays whole. */
export function wrapLine(line: string, width: number): string[] {
  const [indent = ''] = /^ *(?:- )?/.exec(line) ?? []
  const lines: string[] = []
  let last = ''
  for (const atom of line.slice(indent.length).match(ATOM) ?? []) {
    const longer = last === '' ? atom : `${last} ${atom}`
    if (last !== '' && indent.length + longer.length > width) {
      lines.push(last)
      last = atom
    } else last = longer
  }
  return [...lines, last].map((text, i) => `${i === 0 ? indent : ' '.repeat(indent.length)}${text}`)
}
