import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { parse } from 'yaml'

const k8s = path.resolve(import.meta.dirname, '../../k8s')
const folder = path.join(k8s, 'mover')
const kustomization = parse(readFileSync(path.join(folder, 'kustomization.yaml'), 'utf8'))
const generators = kustomization.configMapGenerator as { name: string; files: string[] }[]

test('the by-hand ConfigMaps hold every file of the mover once, and nothing else', () => {
  const program = readdirSync(folder).filter((name) => name.endsWith('.py') || name === 'requirements.txt')
  expect(generators.flatMap(({ files }) => files).sort()).toEqual(program.sort())
})

test.each(readdirSync(path.join(k8s, 'jobs')))('%s mounts these ConfigMaps, under just these names', (file) => {
  const job = parse(readFileSync(path.join(k8s, 'jobs', file), 'utf8'))
  const [{ name, projected }] = job.spec.template.spec.volumes
  expect({ name, projected }).toEqual({
    name: 'mover',
    projected: { sources: generators.map((generator) => ({ configMap: { name: generator.name } })) },
  })
  expect(kustomization.generatorOptions.disableNameSuffixHash).toBe(true)
})

test.each(generators)('$name fits into the annotation in which kubectl apply keeps a copy', (one) => {
  const data = Object.fromEntries(one.files.map((name) => [name, readFileSync(path.join(folder, name), 'utf8')]))
  // Go writes these as \u003c and so on; behind the data come the object's name, namespace and labels.
  const written = JSON.stringify(data).replace(/[<>&\u2028\u2029]/g, '\\u0000')
  const rest = 1024
  expect(Buffer.byteLength(written) + rest, 'all annotations of an object').toBeLessThan(256 * 1024)
})
