/**
 * `make picture`: records a real run in a terminal and draws its last screen as docs/run.svg.
 */
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { python } from './cluster.mts'
import { wordllama } from './wordllama.mts'
import { demoWorld } from './world.mts'

const COLUMNS = 100
const CELL = { width: 8.4, height: 19 }
const MARGIN = 16
const COLORS: Readonly<Record<string, string>> = { '31': '#f47067', '32': '#57ab5a', '33': '#e0af68', '0': '#cdd9e5' }

const ESCAPE = '\u001b'
const COLORED_MARK = new RegExp(`^${ESCAPE}\\[\\d+m.${ESCAPE}\\[0m`)

const target = path.resolve(import.meta.dirname, '../../docs/run.svg')
const model = await wordllama(python, path.join(python, '../share/models'))
const world = await demoWorld(model)
try {
  // python's pty gives the script a terminal; stty tells it how wide that is.
  const typed = `make setup-model MODEL=${model.id}`
  const record = 'import pty, sys; sys.exit(pty.spawn(["sh", "-c", sys.argv[1]]) >> 8)'
  const { code, stdout, stderr } = await world.run(
    path.join(python, 'python'),
    ['-c', record, `stty cols ${COLUMNS}; ${typed}`],
    { env: { TERM: 'xterm' } },
  )
  if (code !== 0) throw new Error(`the run to be drawn failed: ${stdout}${stderr}`)
  await writeFile(target, draw([`$ ${typed}`, ...screen(stdout)]))
  console.log(target)
} finally {
  await world.close()
}

/** What a terminal shows in the end: a line that was drawn again shows its last state. */
function screen(recorded: string): string[] {
  return recorded
    .replaceAll('\r\n', '\n')
    .trimEnd()
    .split('\n')
    .map((line) => line.slice(line.lastIndexOf('\r') + 1).replaceAll(`${ESCAPE}[2K`, ''))
    .flatMap(wrap)
}

/** Long lines are wrapped as a terminal wraps them. Colours are of the first mark only, so that they never span two. */
function wrap(line: string): string[] {
  const mark = COLORED_MARK.exec(line)?.[0] ?? ''
  const visible = `${mark ? ' ' : ''}${line.slice(mark.length)}`
  const rows = visible.match(new RegExp(`.{1,${COLUMNS}}`, 'gu')) ?? ['']
  return rows.map((row, i) => (i === 0 && mark ? mark + row.slice(1) : row))
}

function draw(lines: readonly string[]): string {
  const width = Math.ceil(COLUMNS * CELL.width + 2 * MARGIN)
  const height = lines.length * CELL.height + 2 * MARGIN
  const rows = lines.map(
    (line, i) =>
      `<text x="${MARGIN}" y="${MARGIN + (i + 0.75) * CELL.height}" xml:space="preserve">${spans(line)}</text>`,
  )
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="A run of make setup-model in a terminal">`,
    '<rect width="100%" height="100%" rx="8" fill="#22272e"/>',
    `<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="14" fill="${COLORS['0']}">`,
    ...rows,
    '</g>',
    '</svg>',
    '',
  ].join('\n')
}

function spans(line: string): string {
  const [first = '', ...colored] = line.split(`${ESCAPE}[`)
  const rest = colored.map((piece) => {
    const [, code = '0', text = ''] = /^(\d+)m(.*)$/s.exec(piece) ?? []
    return `<tspan fill="${COLORS[code] ?? COLORS['0']}">${escapeXml(text)}</tspan>`
  })
  return escapeXml(first) + rest.join('')
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}
