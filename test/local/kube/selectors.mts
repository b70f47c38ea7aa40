import { events, jobs, type Kind, namespaces, nodes, pods, secrets } from './kinds.mts'
import type { Job, KubeObject } from './objects.mts'
import { badRequest } from './status.mts'

export type Predicate = (object: KubeObject) => boolean

/** `a=b,c!=d,e in (f,g),h notin (i),j,!k`: true for an object that fulfils every term. */
export function labelSelector(text: string): Predicate {
  const terms = splitTerms(text).map(labelTerm)
  return ({ metadata }) => terms.every((term) => term(metadata.labels ?? {}))
}

function splitTerms(text: string): string[] {
  return text
    .split(/,(?![^(]*\))/)
    .map((term) => term.trim())
    .filter((term) => term !== '')
}

function labelTerm(term: string): (labels: Record<string, string>) => boolean {
  const set = /^(\S+)\s+(in|notin)\s+\(([^)]*)\)$/.exec(term)
  if (set) {
    const [, label = '', operator, list = ''] = set
    const values = list.split(',').map((value) => value.trim())
    return (labels) => {
      const value = labels[label]
      return operator === 'in'
        ? value !== undefined && values.includes(value)
        : value === undefined || !values.includes(value)
    }
  }
  const pair = /^([^!=\s]+)\s*(==|=|!=)\s*([^!=\s]*)$/.exec(term)
  if (pair) {
    const [, label = '', operator, value] = pair
    return (labels) => (labels[label] === value) === (operator !== '!=')
  }
  const presence = /^(!?)\s*([A-Za-z0-9./_-]+)$/.exec(term)
  if (!presence) throw badRequest(`unable to parse requirement: ${JSON.stringify(term)}`)
  const [, not, label = ''] = presence
  return (labels) => label in labels === (not === '')
}

/** The fields that the real API can select by, beside the name and the namespace. */
const fields = new Map<Kind, Record<string, (object: KubeObject) => unknown>>([
  [namespaces, { 'status.phase': (object) => at(object, 'status.phase') }],
  [nodes, { 'spec.unschedulable': (object) => String(at(object, 'spec.unschedulable') ?? false) }],
  [secrets, { type: (object) => object.type }],
  [jobs, { 'status.successful': (object) => String((object as Job).status.succeeded ?? 0) }],
  [
    pods,
    Object.fromEntries(
      [
        'spec.nodeName',
        'spec.restartPolicy',
        'spec.schedulerName',
        'spec.serviceAccountName',
        'status.phase',
        'status.podIP',
      ].map((path) => [path, (object: KubeObject) => at(object, path) ?? '']),
    ),
  ],
  [
    events,
    {
      ...Object.fromEntries(
        ['kind', 'namespace', 'name', 'uid', 'apiVersion', 'resourceVersion', 'fieldPath'].map((field) => [
          `involvedObject.${field}`,
          (object: KubeObject) => at(object, `involvedObject.${field}`) ?? '',
        ]),
      ),
      reason: (object) => object.reason ?? '',
      type: (object) => object.type ?? '',
      reportingComponent: (object) => object.reportingComponent ?? '',
      source: (object) => at(object, 'source.component') ?? object.reportingComponent ?? '',
    },
  ],
])

/** `metadata.name=x,status.phase!=Running`: only what the real API knows for the kind, else its BadRequest. */
export function fieldSelector(kind: Kind, text: string): Predicate {
  const terms = splitTerms(text).map((term) => {
    const [, field = '', operator, value] = /^([^!=]+?)\s*(==|=|!=)\s*(.*)$/.exec(term) ?? []
    const read =
      field === 'metadata.name' || field === 'metadata.namespace'
        ? (o: KubeObject) => at(o, field) ?? ''
        : fields.get(kind)?.[field]
    if (!read) throw badRequest(`field label not supported: ${field || term}`)
    return (object: KubeObject) => (read(object) === value) === (operator !== '!=')
  })
  return (object) => terms.every((term) => term(object))
}

function at(object: KubeObject, path: string): unknown {
  return path
    .split('.')
    .reduce<unknown>((value, step) => (value as Record<string, unknown> | undefined)?.[step], object)
}
