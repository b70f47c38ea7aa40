import type { Rules } from './kubectl.mts'

/** Verbs that a run needs on a resource (`pods/log`), in the namespace; `name` where it is one object only. */
export interface Permission {
  group: string
  resource: string
  verbs: readonly string[]
  name?: string
}

/** What following a Job to its end and replacing a finished one takes. A right to patch Jobs is used where it is there. */
export function jobPermissions(): Permission[] {
  return [
    { group: 'batch', resource: 'jobs', verbs: ['get', 'list', 'create', 'delete'] },
    { group: '', resource: 'pods', verbs: ['get', 'list'] },
    { group: '', resource: 'pods/log', verbs: ['get'] },
    { group: '', resource: 'configmaps', verbs: ['get', 'create'] },
  ]
}

/** What only explains why a pod does not start. */
export function explainingPermissions(): Permission[] {
  return [{ group: '', resource: 'events', verbs: ['list'] }]
}

/** What removing what Jobs left takes beside that. */
export function removalPermissions(): Permission[] {
  return [
    // A removal begins suspended, so that it can look whether it is alone.
    { group: 'batch', resource: 'jobs', verbs: ['get', 'list', 'delete', 'patch'] },
    { group: '', resource: 'pods', verbs: ['list', 'delete'] },
    { group: '', resource: 'configmaps', verbs: ['list', 'delete'] },
  ]
}

/** What looking at the claim takes, and making it where it is missing. */
export function claimPermissions(claim: string, creates: boolean): Permission[] {
  const own: Permission = { group: '', resource: 'persistentvolumeclaims', verbs: ['get'], name: claim }
  return creates ? [own, { group: '', resource: 'persistentvolumeclaims', verbs: ['create'] }] : [own]
}

/** What taking the stale claimRef off a Released volume takes. */
export function releasePermissions(volume: string): Permission[] {
  return [{ group: '', resource: 'persistentvolumes', verbs: ['patch'], name: volume }]
}

/** Pure: `create, delete jobs` for what the rules do not grant. */
export function missingPermissions({ resourceRules }: Rules, wanted: readonly Permission[]): string[] {
  return wanted.flatMap((permission) => {
    const missing = permission.verbs.filter((verb) => !resourceRules.some((rule) => grants(rule, permission, verb)))
    return missing.length > 0 ? [`${missing.join(', ')} ${permission.resource}`] : []
  })
}

function grants(rule: Rules['resourceRules'][number], { group, resource, name }: Permission, verb: string): boolean {
  const { verbs, apiGroups = [], resources = [], resourceNames = [] } = rule
  const [, subresource] = resource.split('/')
  return (
    holds(verbs, verb) &&
    holds(apiGroups, group) &&
    (holds(resources, resource) || (subresource !== undefined && resources.includes(`*/${subresource}`))) &&
    // A rule for some objects by name grants neither list nor create.
    (resourceNames.length === 0 || (name !== undefined && resourceNames.includes(name)))
  )
}

function holds(list: readonly string[], wanted: string): boolean {
  return list.includes('*') || list.includes(wanted)
}
