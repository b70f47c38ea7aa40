import { createCipheriv, createHash } from 'node:crypto'
import type { HubFile, HubRepo } from './hub.mts'

export interface ModelOptions {
  id?: string
  /** The same seed gives the same bytes. */
  seed?: string
  shards?: number
  /** Bytes of each shard, its header counted. */
  shardSize?: number
}

/** A small model with everything that makes real ones hard: shards, a second copy of the weights, odd names, an empty file. */
export function smallModel(options: ModelOptions = {}): HubRepo {
  const { id = 'acme/small-model', seed = 'first', shards = 2, shardSize = 3_000_000 } = options
  const weights = Array.from({ length: shards }, (_, index): HubFile => {
    const number = (count: number) => String(count).padStart(5, '0')
    const path = `model-${number(index + 1)}-of-${number(shards)}.safetensors`
    return { path, body: safetensors(`${seed} ${path}`, shardSize) }
  })
  const index = Object.fromEntries(weights.map(({ path }, layer) => [`layers.${layer}.weight`, path]))
  return {
    id,
    files: [
      text('.gitattributes', '*.safetensors filter=lfs diff=lfs merge=lfs -text\n'),
      text('README.md', `# ${id}\n\nMade of seeded bytes (${seed}).\n`),
      json('config.json', { architectures: ['LlamaForCausalLM'], hidden_size: 64, num_hidden_layers: shards, seed }),
      json('generation_config.json', { max_length: 4096 }),
      json('tokenizer_config.json', { model_max_length: 4096 }),
      json('tokenizer.json', { version: '1.0', model: { vocab: vocabulary(seed) } }),
      json('model.safetensors.index.json', { metadata: { total_size: shards * shardSize }, weight_map: index }),
      ...weights,
      { path: 'special/empty.txt', body: new Uint8Array() },
      text('docs/how to use/überblick – 概要.md', 'names with spaces and unicode\n'),
      text('docs/100%+1 (a&b)=c,d;e~f.txt', 'names that URLs and XML must escape\n'),
      { path: 'original/consolidated.00.pth', body: seededBytes(`${seed} original`, shards * shardSize) },
      json('original/params.json', { dim: 64 }),
    ],
  }
}

/** Deterministic bytes that do not compress: the key stream of a cipher. */
export function seededBytes(seed: string, size: number): Buffer {
  const key = createHash('sha256').update(seed).digest()
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size))
}

/** A valid safetensors file of `size` bytes with one tensor. */
function safetensors(seed: string, size: number): Buffer {
  const HEADER = 128
  const data = seededBytes(seed, size - HEADER)
  const tensor = { dtype: 'U8', shape: [data.length], data_offsets: [0, data.length] }
  // The header is JSON, padded with spaces, behind its own length in 8 bytes.
  const header = Buffer.alloc(HEADER, ' ')
  header.writeBigUInt64LE(BigInt(HEADER - 8))
  header.write(JSON.stringify({ weight: tensor }), 8)
  return Buffer.concat([header, data])
}

function vocabulary(seed: string): Record<string, number> {
  const tokens = seededBytes(`${seed} vocabulary`, 4000).toString('hex').match(/.{8}/g) ?? []
  return Object.fromEntries(tokens.map((token, id) => [token, id]))
}

function json(path: string, document: unknown): HubFile {
  return text(path, `${JSON.stringify(document, null, 2)}\n`)
}

function text(path: string, content: string): HubFile {
  return { path, body: Buffer.from(content) }
}
