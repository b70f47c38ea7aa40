import { badRequest } from './status.mts'

/** The length-delimited fields of a protobuf message by number; all that a SelfSubjectAccessReview has. */
function fields(message: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>()
  let at = 0
  const varint = () => {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = message[at++]
      if (byte === undefined) throw badRequest('truncated protobuf')
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value
    }
  }
  while (at < message.length) {
    const tag = varint()
    if (tag % 8 !== 2) throw badRequest(`unexpected protobuf wire type ${tag % 8}`)
    const length = varint()
    found.set(Math.floor(tag / 8), message.subarray(at, at + length))
    at += length
  }
  return found
}

/**
 * Reads the one object that kubectl only sends as protobuf (`kubectl auth can-i`).
 * Numbers: runtime.Unknown 2 = raw; SelfSubjectAccessReview 2 = spec, 1 = resourceAttributes, then in order of its Go struct.
 */
export function decodeAccessReview(body: Buffer): Record<string, unknown> {
  if (body.subarray(0, 4).toString('latin1') !== 'k8s\0') throw badRequest('not a Kubernetes protobuf message')
  const raw = fields(body.subarray(4)).get(2) ?? Buffer.alloc(0)
  const spec = fields(raw).get(2) ?? Buffer.alloc(0)
  const attributes = fields(fields(spec).get(1) ?? Buffer.alloc(0))
  const names = ['namespace', 'verb', 'group', 'version', 'resource', 'subresource', 'name']
  const resourceAttributes = Object.fromEntries(
    names.flatMap((name, index) => {
      const value = attributes.get(index + 1)?.toString() ?? ''
      return value === '' ? [] : [[name, value]]
    }),
  )
  return { apiVersion: 'authorization.k8s.io/v1', kind: 'SelfSubjectAccessReview', spec: { resourceAttributes } }
}
