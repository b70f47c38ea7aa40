import { badRequest } from './status.mts'

/** How a field of a message reads as JSON: text, base64 of its bytes, a flag, a map to one of these, or a message. */
type Field = 'string' | 'bytes' | 'bool' | { map: 'string' | 'bytes' } | Message
interface Message {
  [number: number]: [name: string, type: Field]
}

const metadata: Message = {
  1: ['name', 'string'],
  2: ['generateName', 'string'],
  3: ['namespace', 'string'],
  11: ['labels', { map: 'string' }],
  12: ['annotations', { map: 'string' }],
}

const resourceAttributes: Message = {
  1: ['namespace', 'string'],
  2: ['verb', 'string'],
  3: ['group', 'string'],
  5: ['resource', 'string'],
  6: ['subresource', 'string'],
  7: ['name', 'string'],
}

/** The kinds that kubectl creates from its command line and then sends as protobuf; numbers from the API's .proto files. */
const messages: Record<string, Message> = {
  Namespace: { 1: ['metadata', metadata] },
  ConfigMap: {
    1: ['metadata', metadata],
    2: ['data', { map: 'string' }],
    3: ['binaryData', { map: 'bytes' }],
    4: ['immutable', 'bool'],
  },
  Secret: {
    1: ['metadata', metadata],
    2: ['data', { map: 'bytes' }],
    3: ['type', 'string'],
    4: ['stringData', { map: 'string' }],
    5: ['immutable', 'bool'],
  },
  SelfSubjectAccessReview: { 2: ['spec', { 1: ['resourceAttributes', resourceAttributes] }] },
}

/** runtime.Unknown, which wraps every object. */
const envelope: Message = {
  1: ['typeMeta', { 1: ['apiVersion', 'string'], 2: ['kind', 'string'] }],
  2: ['raw', 'bytes'],
}

/** `kubectl create secret`, `create configmap`, `create namespace` and `auth can-i` send this; everything else is JSON. */
export function decodeProtobuf(body: Buffer): Record<string, unknown> {
  if (body.subarray(0, 4).toString('latin1') !== 'k8s\0') throw badRequest('not a Kubernetes protobuf message')
  const { typeMeta, raw } = read(body.subarray(4), envelope) as {
    typeMeta: { apiVersion: string; kind: string }
    raw?: string
  }
  const message = messages[typeMeta.kind]
  if (!message) throw badRequest(`protobuf of the kind ${typeMeta.kind} is not known`)
  return { ...typeMeta, ...read(Buffer.from(raw ?? '', 'base64'), message) }
}

function read(bytes: Buffer, message: Message): Record<string, unknown> {
  const result: Record<string, unknown> = {}
  for (const [number, value] of fields(bytes)) {
    const [name, type] = message[number] ?? []
    // An empty text stands for a field that is not set.
    if (name === undefined || type === undefined || (type === 'string' && (value as Buffer).length === 0)) continue
    if (typeof type === 'object' && 'map' in type) {
      const entry = read(value as Buffer, { 1: ['key', 'string'], 2: ['value', type.map as Field] })
      result[name] = { ...(result[name] as object), [String(entry.key ?? '')]: entry.value ?? '' }
    } else result[name] = scalar(value, type)
  }
  return result
}

function scalar(value: Buffer | number, type: Field): unknown {
  if (typeof value === 'number') return type === 'bool' ? value !== 0 : value
  if (type === 'string') return value.toString()
  return type === 'bytes' ? value.toString('base64') : read(value, type as Message)
}

/** The fields in their order: numbers and length-delimited ones, which are all that these messages have. */
function fields(bytes: Buffer): [number: number, value: Buffer | number][] {
  const found: [number, Buffer | number][] = []
  let at = 0
  const varint = () => {
    let value = 0
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++]
      if (byte === undefined) throw badRequest('truncated protobuf')
      value += (byte & 0x7f) * factor
      if (byte < 0x80) return value
    }
  }
  while (at < bytes.length) {
    const tag = varint()
    const wire = tag % 8
    const value = varint()
    if (wire === 2) at += value
    else if (wire !== 0) throw badRequest(`unexpected protobuf wire type ${wire}`)
    found.push([Math.floor(tag / 8), wire === 2 ? bytes.subarray(at - value, at) : value])
  }
  return found
}
