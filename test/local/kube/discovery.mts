import { type Kind, kinds, verbs } from './kinds.mts'

/** What `kubectl version` and readers of /version see: the release whose answers are imitated. */
export const version = { major: '1', minor: '33', gitVersion: 'v1.33.13', platform: 'linux/amd64' }

const group = (name: string) => ({
  name,
  versions: [{ groupVersion: `${name}/v1`, version: 'v1' }],
  preferredVersion: { groupVersion: `${name}/v1`, version: 'v1' },
})

function resource(kind: Kind): Record<string, unknown>[] {
  const own = {
    name: kind.plural,
    singularName: kind.singular,
    namespaced: kind.namespaced,
    kind: kind.kind,
    verbs,
    ...(kind.shortNames.length > 0 && { shortNames: kind.shortNames }),
    ...(kind.categories && { categories: kind.categories }),
  }
  const inner = (kind.subresources ?? []).map((name) => ({
    name: `${kind.plural}/${name}`,
    singularName: '',
    namespaced: kind.namespaced,
    kind: kind.kind,
    verbs: ['get'],
  }))
  return [own, ...inner]
}

const review = (name: string) => ({
  name: `${name.toLowerCase()}s`,
  singularName: name.toLowerCase(),
  namespaced: false,
  kind: name,
  verbs: ['create'],
})

function resourceList(groupVersion: string, resources: Record<string, unknown>[]): Record<string, unknown> {
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion, resources }
}

/**
 * All that kubectl wants of the schema: that each kind has a `patch` operation which takes `fieldValidation` and `dryRun`.
 * With it kubectl leaves validation to the server. Reviews cannot be patched, yet named here they are spared kubectl's old
 * way, a schema in protobuf. An object of the kind `List` is not: kubectl cannot apply one here.
 */
function openApi(group: string, served: readonly string[]): Record<string, unknown> {
  const parameters = ['dryRun', 'fieldManager', 'fieldValidation', 'force'].map((name) => ({
    name,
    in: 'query',
    schema: { type: 'string', uniqueItems: true },
  }))
  const paths = served.map((kind) => [
    `/${kind.toLowerCase()}s/{name}`,
    { patch: { parameters, 'x-kubernetes-group-version-kind': { group, version: 'v1', kind } } },
  ])
  return {
    openapi: '3.0.0',
    info: { title: 'Kubernetes stand-in', version: version.gitVersion },
    paths: Object.fromEntries(paths),
    components: { schemas: {} },
  }
}

const AUTHORIZATION = 'authorization.k8s.io'
const reviews = ['SelfSubjectAccessReview', 'SelfSubjectRulesReview']
const inGroup = (name: string) => kinds.filter((kind) => kind.group === name)
const kindsOf = (name: string) => inGroup(name).map(({ kind }) => kind)

const byPath: Record<string, unknown> = {
  '/version': version,
  '/api': { kind: 'APIVersions', versions: ['v1'] },
  '/apis': { kind: 'APIGroupList', apiVersion: 'v1', groups: [group(AUTHORIZATION), group('batch')] },
  '/api/v1': resourceList('v1', inGroup('').flatMap(resource)),
  '/apis/batch/v1': resourceList('batch/v1', inGroup('batch').flatMap(resource)),
  '/apis/authorization.k8s.io/v1': resourceList(`${AUTHORIZATION}/v1`, reviews.map(review)),
  '/openapi/v3': {
    paths: Object.fromEntries(
      ['api/v1', 'apis/batch/v1', `apis/${AUTHORIZATION}/v1`].map((path) => [
        path,
        { serverRelativeURL: `/openapi/v3/${path}` },
      ]),
    ),
  },
  '/openapi/v3/api/v1': openApi('', kindsOf('')),
  '/openapi/v3/apis/batch/v1': openApi('batch', kindsOf('batch')),
  '/openapi/v3/apis/authorization.k8s.io/v1': openApi(AUTHORIZATION, reviews),
}

/** The answer to a discovery request; undefined when the path is none. */
export function discover(path: string): unknown {
  return byPath[path.replace(/\/$/, '')]
}
