/** What a run tells people, on stderr: one line a step, a title and a sentence. The result goes to stdout, elsewhere. */
export class Story {
  readonly #write: (text: string) => void

  constructor(write: (text: string) => void) {
    this.#write = write
  }

  /** Something began or changed. */
  begun(title: string, sentence: string): void {
    this.#line('•', title, sentence)
  }

  /** It is done, or was already. */
  done(title: string, sentence: string): void {
    this.#line('✓', title, sentence)
  }

  failed(title: string, sentence: string): void {
    this.#line('✗', title, sentence)
  }

  /** A line that belongs to the step above. */
  detail(sentence: string): void {
    this.#line(' ', '', sentence)
  }

  #line(mark: string, title: string, sentence: string): void {
    for (const [i, line] of sentence.split('\n').entries())
      this.#write(`${lineOf(i === 0 ? mark : ' ', i === 0 ? title : '', line)}\n`)
  }
}

/** Room for the longest title, `to Spaces`. */
const TITLE_WIDTH = 10

/** `✓ to Spaces  13 files`: a mark, a title, a sentence. */
export function lineOf(mark: string, title: string, sentence: string): string {
  return `${mark} ${title.padEnd(TITLE_WIDTH)} ${sentence}`.trimEnd()
}
