import { isDeepStrictEqual } from 'node:util'
import { ApiError, badRequest } from './status.mts'

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }
type Fields = { [key: string]: Json }

function isFields(value: Json | undefined): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** RFC 7386: null removes, objects merge, everything else replaces. */
export function mergePatch(target: Json | undefined, patch: Json): Json {
  if (!isFields(patch)) return patch
  const result: Fields = isFields(target) ? { ...target } : {}
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key]
    else result[key] = mergePatch(result[key], value)
  }
  return result
}

interface Operation {
  op: string
  path: string
  from?: string
  value?: Json
}

/** RFC 6902. A failed `test` and a missing path are 422 Invalid, as from the real API. */
export function jsonPatch(target: Json, operations: Json): Json {
  if (!Array.isArray(operations))
    throw badRequest('error decoding patch: json: cannot unmarshal into Go value of type jsonpatch.Patch')
  let document = structuredClone(target)
  for (const operation of operations as unknown as Operation[]) document = operate(document, operation)
  return document
}

function operate(document: Json, { op, path, from, value }: Operation): Json {
  switch (op) {
    case 'test':
      if (!isDeepStrictEqual(read(document, path), value)) throw rejected()
      return document
    case 'add':
    case 'replace':
      if (value === undefined) throw badRequest(`jsonpatch ${op} operation without value`)
      if (op === 'replace' && read(document, path) === undefined) throw rejected()
      return write(document, op, path, value)
    case 'remove':
      if (read(document, path) === undefined) throw rejected()
      return write(document, op, path, undefined)
    case 'copy':
    case 'move': {
      const moved = read(document, from ?? '')
      if (moved === undefined) throw rejected()
      const rest = op === 'move' ? write(document, 'remove', from ?? '', undefined) : document
      return write(rest, 'add', path, structuredClone(moved))
    }
    default:
      throw badRequest(`Unexpected kind: ${op}`)
  }
}

/** The real API does not say which operation failed. */
function rejected(): ApiError {
  return new ApiError(422, 'Invalid', 'the server rejected our request due to an error in our request', {})
}

function steps(path: string): string[] {
  return path
    .split('/')
    .slice(1)
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'))
}

function read(document: Json, path: string): Json | undefined {
  return steps(path).reduce<Json | undefined>((value, step) => {
    if (Array.isArray(value)) return value[Number(step)]
    return isFields(value) ? value[step] : undefined
  }, document)
}

function write(document: Json, op: string, path: string, value: Json | undefined): Json {
  const [last, ...above] = steps(path).reverse()
  if (last === undefined) return value ?? null
  const parent = read(
    document,
    above
      .reverse()
      .map((step) => `/${step.replaceAll('~', '~0').replaceAll('/', '~1')}`)
      .join(''),
  )
  if (Array.isArray(parent)) {
    const index = last === '-' ? parent.length : Number(last)
    if (op === 'remove') parent.splice(index, 1)
    else if (op === 'add') parent.splice(index, 0, value ?? null)
    else parent[index] = value ?? null
  } else if (isFields(parent)) {
    if (value === undefined) delete parent[last]
    else parent[last] = value
  } else throw rejected()
  return document
}

/**
 * The lists that merge by a key, by the name of the field that holds them (from the API's patchMergeKey tags, for the
 * kinds served here); `''` = a set of plain values. Every other list is replaced as a whole.
 */
const mergeKeys: Record<string, string> = {
  containers: 'name',
  initContainers: 'name',
  volumes: 'name',
  env: 'name',
  volumeMounts: 'mountPath',
  conditions: 'type',
  ownerReferences: 'uid',
  imagePullSecrets: 'name',
  taints: 'key',
  addresses: 'type',
  finalizers: '',
}

/** Kubernetes' strategic merge: as mergePatch, but lists merge by key, with the `$patch`, `$setElementOrder` and `$deleteFromPrimitiveList` directives. */
export function strategicMergePatch(target: Json | undefined, patch: Json): Json {
  if (!isFields(patch)) return patch
  if (patch.$patch === 'replace') {
    const { $patch: _, ...rest } = patch
    return rest
  }
  const result: Fields = isFields(target) ? { ...target } : {}
  const retain = patch.$retainKeys
  if (Array.isArray(retain)) for (const key of Object.keys(result)) if (!retain.includes(key)) delete result[key]
  for (const [key, value] of Object.entries(patch)) {
    const list = /^\$deleteFromPrimitiveList\/(.+)$/.exec(key)?.[1]
    if (list) {
      const present = result[list]
      if (Array.isArray(present) && Array.isArray(value)) result[list] = present.filter((item) => !value.includes(item))
    } else if (key.startsWith('$')) {
    } else if (value === null) delete result[key]
    else if (Array.isArray(value)) {
      const merged = mergeList(result[key], value, mergeKeys[key])
      result[key] = ordered(merged, patch[`$setElementOrder/${key}`], mergeKeys[key])
    } else result[key] = strategicMergePatch(result[key], value)
  }
  return result
}

function mergeList(target: Json | undefined, patch: Json[], mergeKey: string | undefined): Json[] {
  const present = Array.isArray(target) ? target : []
  if (mergeKey === undefined) return patch
  if (mergeKey === '') return [...present, ...patch.filter((item) => !present.includes(item))]
  if (patch.some((item) => isFields(item) && item.$patch === 'replace')) {
    return patch.filter((item) => !(isFields(item) && item.$patch === 'replace'))
  }
  let result = [...present]
  for (const item of patch) {
    if (!isFields(item)) throw badRequest('a list that merges by key holds a plain value')
    const at = result.findIndex((other) => isFields(other) && isDeepStrictEqual(other[mergeKey], item[mergeKey]))
    if (item.$patch === 'delete') result = result.filter((_, index) => index !== at)
    else if (at < 0) result.push(item)
    else result[at] = strategicMergePatch(result[at], item)
  }
  return result
}

function ordered(list: Json[], order: Json | undefined, mergeKey: string | undefined): Json[] {
  if (!Array.isArray(order) || mergeKey === undefined) return list
  const identity = (item: Json) => (mergeKey !== '' && isFields(item) ? item[mergeKey] : item)
  const rank = (item: Json) => {
    const found = order.findIndex((wanted) => isDeepStrictEqual(identity(wanted), identity(item)))
    return found < 0 ? order.length : found
  }
  return [...list].sort((a, b) => rank(a) - rank(b))
}

/**
 * Server-side apply for one manager: `previous` is what it applied last time. What it no longer names is removed, what it
 * names is set, lists merge by key. Fields' owners are not tracked, so it never conflicts with another manager.
 */
export function applyPatch(target: Json | undefined, applied: Json, previous: Json | undefined): Json {
  return strategicMergePatch(target, withRemovals(applied, previous))
}

function withRemovals(applied: Json, previous: Json | undefined): Json {
  if (!isFields(applied) || !isFields(previous)) return applied
  const result: Fields = {}
  for (const key of Object.keys(previous)) if (!(key in applied)) result[key] = null
  for (const [key, value] of Object.entries(applied)) {
    const before = previous[key]
    const mergeKey = mergeKeys[key]
    if (!Array.isArray(value) || !Array.isArray(before) || mergeKey === undefined)
      result[key] = withRemovals(value, before)
    else if (mergeKey === '') {
      result[key] = value
      result[`$deleteFromPrimitiveList/${key}`] = before.filter((item) => !value.includes(item))
    } else {
      const named = (list: Json[], item: Json) =>
        list.find((other) => isFields(other) && isFields(item) && isDeepStrictEqual(other[mergeKey], item[mergeKey]))
      const gone = before.filter((item) => isFields(item) && !named(value, item)) as Fields[]
      const deletions: Json[] = gone.map((item) => ({ [mergeKey]: item[mergeKey] ?? null, $patch: 'delete' }))
      result[key] = [...value.map((item) => withRemovals(item, named(before, item))), ...deletions]
    }
  }
  return result
}
