import path from 'node:path'
import { runChild } from './child.mts'
import { Failure } from './failure.mts'

const need = path.resolve(import.meta.dirname, '../need')

/** The programs of the flow are on PATH; all that are not are named together, with how to get them. */
export async function checkTools(): Promise<void> {
  const { code, stderr } = await runChild([need, 'kubectl', 'envsubst'])
  if (code === 0) return
  throw new Failure(stderr.trim(), 'install what is missing, then run the same command again')
}
