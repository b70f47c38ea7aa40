import { expect, test } from 'vitest'
import { runChild } from '../../scripts/lib/child.mts'
import { Interrupted } from '../../scripts/lib/failure.mts'

/** Prints the process ids of itself and of a child that is deaf to SIGTERM, and waits for that. */
const STUBBORN = `sh -c 'trap "" TERM HUP INT; echo $$; sleep 300; :' & echo $$; wait`
/** More than a pipe holds. */
const LONG = 'x'.repeat(2 ** 20)

/** A dead process is there until PID 1, which inherits it, looks after it. */
const GONE = { timeout: 10_000 }

async function expectDead(pids: readonly string[]): Promise<void> {
  expect(pids).toHaveLength(2)
  for (const pid of pids) await expect.poll(() => alive(Number(pid)), GONE).toBe(false)
}

function alive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

test('a child that takes too long is ended with all that it has started', async () => {
  let said = ''
  const done = await runChild(['sh', '-c', STUBBORN], { seconds: 1, onStdout: (chunk) => (said += chunk) })
  expect(done).toMatchObject({ code: null, late: true })
  await expectDead(said.trim().split('\n'))
}, 20_000)

test('so is one that is interrupted, at once', async () => {
  const controller = new AbortController()
  let said = ''
  const child = runChild(['sh', '-c', STUBBORN], { signal: controller.signal, onStdout: (chunk) => (said += chunk) })
  child.catch(() => undefined)
  await expect.poll(() => said.trim().split('\n').length).toBe(2)
  controller.abort(new Interrupted('SIGTERM'))
  await expect(child).rejects.toThrow('interrupted by SIGTERM')
  await expectDead(said.trim().split('\n'))
}, 20_000)

test('nor does anything that has left the group keep us waiting', async () => {
  // setsid is not everywhere, python3 is.
  const away = 'import os, time; os.fork() or (os.setsid(), time.sleep(5)); time.sleep(300)'
  const began = performance.now()
  await runChild(['python3', '-c', away], { seconds: 0.5 })
  expect(performance.now() - began).toBeLessThan(4000)
})

test('an input that is not read is no crash: the exit code tells, and a good one is not believed', async () => {
  expect(await runChild(['false'], { input: LONG })).toMatchObject({ code: 1 })
  await expect(runChild(['true'], { input: LONG })).rejects.toThrow('true ended well and had not read its input')
})
