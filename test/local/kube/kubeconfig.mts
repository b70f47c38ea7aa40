/** A kubeconfig of one cluster and one context, as JSON, which is YAML too. No credentials: the server asks for none. */
export function kubeconfig(server: string, context: string): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: context, cluster: { server } }],
    users: [{ name: context, user: {} }],
    contexts: [{ name: context, context: { cluster: context, user: context } }],
    'current-context': context,
  })
}
