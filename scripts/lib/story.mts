import { phaseLine, progressBar, progressSentence } from './bar.mts'
import { formatPrintable, wrapLine } from './format.mts'
import type { PodPhase } from './pod.mts'
import type { Progress } from './progress.mts'
import type { Terminal } from './terminal.mts'

const PLAIN: Terminal = { live: false, color: false, columns: () => 80 }
/** Without a terminal, progress is a new line this often, or when it has got this much further. */
const HEARTBEAT_MS = 9_500
const HEARTBEAT_PERCENT = 5
const CLEAR_LINE = '\r\u001b[2K'

/** What a run tells people, on stderr: one line a step, a title and a sentence. The result goes to stdout, elsewhere. */
export class Story {
  readonly #write: (text: string) => void
  readonly #terminal: Terminal
  /** What stands in the line that is drawn again and again; empty when there is none. */
  #drawn = ''
  #beat = { at: Number.NEGATIVE_INFINITY, percent: -1, phase: '' }
  /** --quiet: only failures are told. */
  quiet = false

  constructor(write: (text: string) => void, terminal: Terminal = PLAIN) {
    this.#write = write
    this.#terminal = terminal
  }

  /** The first line: which script works on what, and where. */
  opened(script: string, subject: string): void {
    if (this.quiet) return
    const { live } = this.#terminal
    const columns = this.#terminal.columns()
    const narrow = columns < NARROW
    const indent = narrow ? 2 : lineOf(' ', '', '-').length - 1
    const head = `${script} `.padEnd(indent)
    const rows = live ? wrapLine(subject, columns - (narrow ? indent : head.length)) : [subject]
    const [first, ...rest] = narrow && live ? ['', ...rows] : rows
    this.#write(`${head}${first}`.trimEnd())
    for (const row of rest) this.#write(`\n${' '.repeat(indent)}${row}`)
    this.#write('\n')
  }

  /** Something began or changed. */
  begun(title: string, sentence: string): void {
    if (!this.quiet) this.#line('•', title, sentence)
  }

  /** It is done, or was already. */
  done(title: string, sentence: string): void {
    if (!this.quiet) this.#line(this.#paint('32', '✓'), title, sentence)
  }

  /** What --dry-run has a run do: it has not happened. */
  would(title: string, sentence: string): void {
    if (!this.quiet) this.#line('○', title, sentence)
  }

  /** Something to know before it is too late, that ends nothing. */
  warned(title: string, sentence: string): void {
    if (!this.quiet) this.#line(this.#paint('33', '!'), title, sentence)
  }

  failed(title: string, sentence: string): void {
    this.#line(this.#paint('31', '✗'), title, sentence)
  }

  /** The next step, or what else belongs to a failure: it is told under --quiet too. */
  advice(sentence: string): void {
    this.#line(' ', '', sentence)
  }

  /** A line that belongs to the step above; a line that is drawn stays below it. */
  detail(sentence: string): void {
    if (this.quiet) return
    const drawn = this.#drawn
    this.#line(' ', '', sentence)
    if (drawn) this.#draw(drawn)
  }

  /** What a pod does before it can tell how far it is. */
  phase({ short, sentence }: PodPhase): void {
    if (this.quiet) return
    if (this.#terminal.live) this.#draw(phaseLine(short, this.#terminal.columns()))
    else this.detail(sentence)
  }

  /** How far a transfer is: one line that is drawn again on a terminal, a new line now and then elsewhere. */
  progress(progress: Progress): void {
    if (this.quiet) return
    if (this.#terminal.live) {
      this.#draw(progressBar(progress, this.#terminal.columns()))
      return
    }
    const { percent, phase } = progress
    const due =
      phase !== this.#beat.phase ||
      percent >= this.#beat.percent + HEARTBEAT_PERCENT ||
      performance.now() - this.#beat.at >= HEARTBEAT_MS
    if (!due) return
    this.#beat = { at: performance.now(), percent, phase }
    this.#line(' ', '', progressSentence(progress))
  }

  /** Takes away the line that is drawn: the result, which goes elsewhere, may be shown in its place. */
  clear(): void {
    if (this.#drawn) this.#write(CLEAR_LINE)
    this.#drawn = ''
  }

  #draw(line: string): void {
    this.#drawn = line
    this.#write(`${CLEAR_LINE}${line}`)
  }

  #line(mark: string, title: string, sentence: string): void {
    this.clear()
    for (const line of layOut(this.#terminal, mark, title, sentence)) this.#write(`${line}\n`)
  }

  #paint(code: string, text: string): string {
    return this.#terminal.color ? `\u001b[${code}m${text}\u001b[0m` : text
  }
}

/** Room for the longest title, `to Spaces`. */
const TITLE_WIDTH = 10
/** Columns below which sentences need the room that keeps them below each other. */
const NARROW = 60

/** `✓ to Spaces  13 files`: a mark, a title, a sentence. */
export function lineOf(mark: string, title: string, sentence: string, width = TITLE_WIDTH): string {
  const words = [title.padEnd(width), sentence].filter((word) => word !== '')
  return [mark, ...words].join(' ').trimEnd()
}

/** On a terminal lines are broken at words, below each other; elsewhere they stay as they are, for grep. */
function layOut(terminal: Terminal, mark: string, title: string, sentence: string): string[] {
  const columns = terminal.columns()
  const narrow = terminal.live && columns < NARROW
  const width = narrow ? 0 : TITLE_WIDTH
  // Where there is no column for titles, the title leads the sentence in.
  const text = narrow && title !== '' ? `${title}: ${sentence}` : sentence
  // Without the mark, whose colour takes no room.
  const room = columns - lineOf(' ', '', '-', width).length
  const plain = text.split('\n').map(formatPrintable)
  const lines = plain.flatMap((line) => (terminal.live ? wrapLine(line, room) : [line]))
  return lines.map((line, i) => lineOf(i === 0 ? mark : ' ', i === 0 && !narrow ? title : '', line, width))
}

/** A line of `lineOf`: mark, title, sentence. */
const ROW = new RegExp(`^([✓✗•!]) (.{${TITLE_WIDTH}}) (.*)$`)

/** A result as its terminal shows it: broken as the story is. Elsewhere it is the text that it was. */
export function layOutResult(text: string, terminal: Terminal): string {
  if (!terminal.live) return text
  const lines = text.split('\n').flatMap((line) => {
    const [, mark, title = '', sentence = ''] = ROW.exec(line) ?? []
    return mark ? layOut(terminal, mark, title.trimEnd(), sentence) : wrapLine(line, terminal.columns())
  })
  return lines.join('\n')
}
