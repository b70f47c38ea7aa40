import { kinds, verbs } from './kinds.mts'
import { forbidden } from './status.mts'

export interface Rule {
  verbs: readonly string[]
  apiGroups: readonly string[]
  resources: readonly string[]
  resourceNames?: readonly string[]
}

/** What is refused: verbs (`*` = all) on resources (`pods`, `pods/log`), everywhere or in one namespace. */
export interface Denial {
  verbs: readonly string[]
  resources: readonly string[]
  namespace?: string
}

export interface Attributes {
  verb?: string
  group?: string
  resource?: string
  subresource?: string
  namespace?: string
  name?: string
}

const user = 'kubernetes-admin'

/** Who may do what: everything, less what a test denies. Denials show both in the answers (403) and in the reviews. */
export class Access {
  #denials: readonly Denial[] = []

  deny(...denials: Denial[]): void {
    this.#denials = denials
  }

  allows({ verb = '', resource = '', subresource, namespace }: Attributes): boolean {
    const target = subresource ? `${resource}/${subresource}` : resource
    return !this.#denials.some(
      (denial) =>
        (denial.verbs.includes('*') || denial.verbs.includes(verb)) &&
        denial.resources.includes(target) &&
        (denial.namespace === undefined || denial.namespace === namespace),
    )
  }

  check(attributes: Attributes): void {
    if (this.allows(attributes)) return
    const { verb, group = '', resource = '', subresource, namespace, name } = attributes
    const target = subresource ? `${resource}/${subresource}` : resource
    const place = namespace === undefined ? 'at the cluster scope' : `in the namespace "${namespace}"`
    const subject = `${resource}${group && `.${group}`}${name ? ` "${name}"` : ''} is forbidden`
    throw forbidden(`${subject}: User "${user}" cannot ${verb} resource "${target}" in API group "${group}" ${place}`, {
      ...(name && { name }),
      ...(group && { group }),
      kind: resource,
    })
  }

  /** The rules of a SelfSubjectRulesReview: RBAC only grants, so a denial turns `*` into what is left. */
  rules(namespace: string): Rule[] {
    if (this.#denials.length === 0) return [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'] }]
    const targets = kinds.flatMap(({ group, plural, subresources }) => [
      { group, resource: plural, target: plural, possible: verbs as readonly string[] },
      ...(subresources ?? []).map((subresource) => ({
        group,
        resource: plural,
        subresource,
        target: `${plural}/${subresource}`,
        possible: ['get'] as readonly string[],
      })),
    ])
    return targets.flatMap(({ target, possible, ...attributes }) => {
      const allowed = possible.filter((verb) => this.allows({ ...attributes, verb, namespace }))
      return allowed.length === 0 ? [] : [{ verbs: allowed, apiGroups: [attributes.group], resources: [target] }]
    })
  }

  review(kind: string, spec: { namespace?: string; resourceAttributes?: Attributes }): Record<string, unknown> {
    const body = { kind, apiVersion: 'authorization.k8s.io/v1', metadata: { creationTimestamp: null } }
    if (kind === 'SelfSubjectRulesReview') {
      const status = {
        resourceRules: this.rules(spec.namespace ?? ''),
        nonResourceRules: [{ verbs: ['*'], nonResourceURLs: ['*'] }],
        incomplete: false,
      }
      return { ...body, spec: {}, status }
    }
    const { namespace, ...attributes } = spec.resourceAttributes ?? {}
    const allowed = this.allows({ ...attributes, ...(namespace && { namespace }) })
    return { ...body, spec, status: { allowed } }
  }
}
