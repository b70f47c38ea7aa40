/**
 * `make demo`: the real scripts stage real weights, with stand-ins for the Hub, Spaces and Kubernetes on this machine.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { python } from './cluster.mts'
import { wordllama } from './wordllama.mts'
import { demoWorld, type World } from './world.mts'

/** How long names may be in listings of 80 columns. */
const NAME = 36

let interrupted: NodeJS.Signals | undefined
let command: ReturnType<typeof spawn> | undefined
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    interrupted = signal
    // The terminal sends Ctrl-C to the command as well, the other two come to this process alone.
    if (signal !== 'SIGINT') command?.kill(signal)
  })
}

const model = await wordllama(python, path.join(python, '../share/models'))
say(
  'Starting stand-ins for the Hub, S3, Kubernetes and the volume, on this machine',
  'only. The names below are the defaults; no real cluster or bucket is asked.',
  'The weights come from the wordllama package on PyPI.',
)
const world = await demoWorld(model)
try {
  process.exitCode = await demonstrate(world)
} finally {
  say('', 'Removing the stand-ins and all they held.')
  if (interrupted) say('What was said to go on goes with them; to begin anew: make demo')
  await world.close()
}
if (interrupted) process.exitCode = 130

async function demonstrate(world: World): Promise<number> {
  const { KUBECONFIG, HF_ENDPOINT, SPACES_ENDPOINT } = world.env
  say('', 'On a cluster of your own these three are left out, see Prerequisites in README.md:', '')
  for (const [name, value] of Object.entries({ KUBECONFIG, HF_ENDPOINT, SPACES_ENDPOINT }))
    say(`  export ${name}=${value}`)

  const steps: [string, string, string[]][] = [
    [
      'Stage the model: claim the volume, Hub -> Spaces, Spaces -> NFS, check.',
      'make',
      ['setup-model', `MODEL=${model.id}`],
    ],
    ['Check it again at any time.', './scripts/verify.mts', ['--model', model.id]],
  ]
  for (const [purpose, program, args] of steps) {
    const code = await show(world, purpose, program, args)
    if (code !== 0) return code
  }
  await showPlaces(world)
  const before = world.moved
  const code = await show(world, 'Once more: everything is proved already, so nothing is to be moved.', 'make', [
    'setup-model',
    `MODEL=${model.id}`,
  ])
  const moved = Object.values(world.moved).map((bytes, i) => bytes - (Object.values(before)[i] ?? 0))
  say('', `Model bytes moved by the second run: ${moved.reduce((sum, bytes) => sum + bytes, 0)}`)
  return code
}

/** Prints a command as one would type it and runs it on this terminal. */
async function show(world: World, purpose: string, program: string, args: string[]): Promise<number> {
  if (interrupted) return 130
  say('', `# ${purpose}`, `$ ${[program, ...args].join(' ')}`)
  const { TERM, COLUMNS, NO_COLOR } = process.env
  const terminal = Object.fromEntries(
    Object.entries({ TERM, COLUMNS, NO_COLOR }).filter(([, value]) => value !== undefined),
  )
  command = spawn(program, args, { env: { ...world.env, ...terminal }, stdio: ['ignore', 'inherit', 'inherit'] })
  const [code] = (await once(command, 'close')) as [number | null]
  return code ?? 1
}

async function showPlaces(world: World): Promise<void> {
  if (interrupted) return
  const { name } = world.bucket
  say('', `# In the bucket: s3://${name}/models/${model.id}/`)
  for (const key of await world.bucket.keys(`models/${model.id}/`)) {
    row(((await world.bucket.get(key)) as Buffer).length, path.basename(key))
  }
  const folder = path.join(world.volume, model.id)
  const evidence = await readFile(path.join(folder, '.download-complete'))
  const { commit, files } = JSON.parse(evidence.toString()) as {
    commit: string
    files: { path: string; size: number; sha256: string }[]
  }
  say('', `# On the volume: /models/${model.id}/`)
  row(evidence.length, '.download-complete', 'same bytes as .upload-complete')
  for (const file of files) row(file.size, file.path, `sha256 ${file.sha256.slice(0, 12)}…`)
  say('', "# Both are the evidence: each file's size and SHA-256 at commit", `# ${commit}`)
}

function row(size: number, name: string, remark = ''): void {
  say(`  ${String(size).padStart(10)}  ${name.padEnd(NAME)}  ${remark}`.trimEnd())
}

function say(...lines: string[]): void {
  for (const line of lines) console.log(line)
}
