import { createHash } from 'node:crypto'

/** A Job's name is a pod's label, so at most 63 characters; less `model-upload-spaces-` and `-999` of an index. */
const LONGEST_SLUG = 39
const CUT = 32

const SEGMENT = /^(?![-.])[A-Za-z0-9._-]{1,96}(?<![-.])$/

/** Why this is no model id of the Hub, or undefined when it is one. */
export function modelProblem(id: string): string | undefined {
  if (id === '') return 'it is empty'
  const pasted = idInAddress(id)
  if (pasted) return `it is the address of a page; the id of its model is ${pasted}`
  const segments = id.split('/')
  if (segments.length > 2) return 'it has more than two segments (organisation/name)'
  if (/\s/.test(id)) return 'it has a space; an id is name or organisation/name, such as openai/gpt-oss-20b'
  if (!segments.every((segment) => SEGMENT.test(segment)))
    return 'each part of it (organisation/name) is 1 to 96 letters, digits, dots, _ or -, and does not begin or end with a dot or -'
  if (/--|\.\./.test(id)) return 'the Hub allows neither -- nor ..'
  if (id.endsWith('.git')) return 'the Hub allows no name that ends in .git'
  return undefined
}

/** The id in an address of the Hub as browsers have it, `https://huggingface.co/gpt2/tree/main`. */
function idInAddress(text: string): string | undefined {
  const [, path] = /^(?:https?:\/\/)?(?:www\.)?(?:huggingface\.co|hf\.co)\/([^?#]+)/.exec(text) ?? []
  if (path === undefined) return undefined
  const [first = '', second = ''] = path.split('/')
  const id =
    second === '' || /^(tree|blob|resolve|raw|commits?|discussions)$/.test(second) ? first : `${first}/${second}`
  return modelProblem(id) === undefined ? id : undefined
}

/**
 * The model's part of Job names and of label values: at most 39 characters of [a-z0-9-].
 *
 * It is not unique (`Org/M.1` and `org/m-1` share one), so Jobs carry the exact id in an annotation.
 */
export function slugOf(id: string): string {
  const readable = id
    .toLowerCase()
    .replaceAll('/', '--')
    .replaceAll(/[^a-z0-9-]/g, '-')
    .replaceAll(/^-+|-+$/g, '')
  const hash = createHash('sha256').update(id).digest('hex').slice(0, 6)
  // `_` is a legal id of which nothing readable is left.
  if (readable === '') return hash
  return readable.length > LONGEST_SLUG ? `${readable.slice(0, CUT)}-${hash}` : readable
}
