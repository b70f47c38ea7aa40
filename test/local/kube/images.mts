/** `docker.io/library/python:3.11-slim` and `python:3.11-slim` are one image. */
export function shortImage(image: string): string {
  return image.replace(/^docker\.io\/(library\/)?/, '')
}

export function fullImage(image: string): string {
  const short = shortImage(image)
  if (/^[^/]+[.:][^/]*\//.test(short)) return short
  return `docker.io/${short.includes('/') ? '' : 'library/'}${short}`
}

/** containerd's words for an image that its registry does not have. */
export function pullError(image: string): string {
  const full = fullImage(image)
  return `failed to pull and unpack image "${full}": failed to resolve reference "${full}": ${full}: not found`
}
