import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import type { HubRepo } from './hub.mts'

/** The name that the package itself gives for its weights on the Hub (wordllama/config/models.py). */
const ID = 'dleemiller/word-llama-l2-supercat'
const FILES = {
  'l2_supercat_256.safetensors': 'wordllama/weights/l2_supercat_256.safetensors',
  'l2_supercat_tokenizer_config.json': 'wordllama/tokenizers/l2_supercat_tokenizer_config.json',
  'l2_supercat.toml': 'wordllama/config/train/l2_supercat.toml',
}

const run = promisify(execFile)

/**
 * Real weights (16 MB) with their tokenizer, out of a package of the Python registry.
 * @param bin the virtual environment's bin folder
 * @param cache folder that keeps them from one run to the next
 */
export async function wordllama(bin: string, cache: string): Promise<HubRepo> {
  const folder = path.join(cache, 'wordllama-0.4.0.post1')
  if (!existsSync(folder)) await unpackWheel(path.join(bin, 'python'), folder)
  return {
    id: ID,
    files: Object.entries(FILES).map(([name, inside]) => ({ path: name, body: { file: path.join(folder, inside) } })),
  }
}

/** Downloads and unpacks beside the folder and renames, so that a run cut short leaves no half of it. */
async function unpackWheel(python: string, folder: string): Promise<void> {
  await mkdir(path.dirname(folder), { recursive: true })
  const workplace = mkdtempSync(`${folder}-`)
  try {
    const pin = path.join(import.meta.dirname, 'wordllama.txt')
    // One wheel for all machines, as only its data is used.
    const one = ['--only-binary=:all:', '--python-version', '3.11', '--platform', 'manylinux2014_x86_64']
    const quiet = ['--quiet', '--disable-pip-version-check']
    await run(python, [
      '-m',
      'pip',
      'download',
      ...quiet,
      '--no-deps',
      '--require-hashes',
      ...one,
      '-d',
      workplace,
      '-r',
      pin,
    ])
    const wheel = readdirSync(workplace).find((name) => name.endsWith('.whl'))
    if (!wheel) throw new Error(`pip downloaded no wheel into ${workplace}`)
    await run(python, ['-m', 'zipfile', '-e', path.join(workplace, wheel), path.join(workplace, 'unpacked')])
    renameSync(path.join(workplace, 'unpacked'), folder)
  } finally {
    rmSync(workplace, { recursive: true, force: true })
  }
}
