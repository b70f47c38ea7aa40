import { contentOf } from '../content.mts'
import type { Answer } from '../http.mts'

/** A failure as S3 tells it: HTTP status and code. */
export class S3Error extends Error {
  readonly status: number
  readonly code: string

  constructor(status: number, code: string) {
    super(code)
    this.status = status
    this.code = code
  }
}

type Leaf = string | number | boolean | undefined
/** Element names to text, to elements, or to lists of repeated elements. Undefined ones are left out. */
export interface Xml {
  [name: string]: Leaf | Xml | readonly (Leaf | Xml)[]
}

/** An answer with an XML document whose root is `name`. Errors have no namespace. */
export function xmlAnswer(status: number, name: string, body: Xml | string): Answer {
  const namespace = name === 'Error' ? '' : ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
  const text = `<?xml version="1.0" encoding="UTF-8"?><${name}${namespace}>${inside(body)}</${name}>`
  return { status, headers: { 'content-type': 'application/xml' }, body: contentOf(text) }
}

function inside(value: Leaf | Xml): string {
  if (typeof value !== 'object') return escapeXml(String(value))
  return Object.entries(value)
    .flatMap(([name, content]) => (Array.isArray(content) ? content : [content]).map((item) => element(name, item)))
    .join('')
}

function element(name: string, value: Leaf | Xml): string {
  return value === undefined ? '' : `<${name}>${inside(value)}</${name}>`
}

function escapeXml(text: string): string {
  return text.replace(/[&<>"]/g, (char) => `&#${char.charCodeAt(0)};`)
}

/** The texts of all elements `name` in a document that a client sent, in order. */
export function texts(document: string, name: string): string[] {
  return [...document.matchAll(new RegExp(`<${name}>([^<]*)</${name}>`, 'g'))].map(([, text = '']) => unescapeXml(text))
}

/** The insides of all elements `name` that hold elements themselves. */
export function elements(document: string, name: string): string[] {
  return [...document.matchAll(new RegExp(`<${name}>(.*?)</${name}>`, 'gs'))].map(([, inside = '']) => inside)
}

function unescapeXml(text: string): string {
  const names: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }
  return text.replace(/&(?:#(\d+)|#x([0-9a-f]+)|(\w+));/gi, (whole, decimal, hex, name) => {
    if (decimal) return String.fromCodePoint(Number(decimal))
    return hex ? String.fromCodePoint(Number.parseInt(hex, 16)) : (names[name] ?? whole)
  })
}
