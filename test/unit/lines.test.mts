import { stripVTControlCharacters } from 'node:util'
import { describe, expect, test, vi } from 'vitest'
import { progressBar, progressSentence } from '../../scripts/lib/bar.mts'
import { formatBytes, formatList, formatPrintable, formatSeconds, wrapLine } from '../../scripts/lib/format.mts'
import { type Progress, parseProgress } from '../../scripts/lib/progress.mts'
import { parseQuantity } from '../../scripts/lib/quantity.mts'
import { listPaths, parseReport } from '../../scripts/lib/report.mts'
import { layOutResult, lineOf, Story } from '../../scripts/lib/story.mts'
import { terminalOf } from '../../scripts/lib/terminal.mts'

describe('a progress line', () => {
  test.each([
    [
      'progress 45% 7230000000/16060000000 B 243 MB/s eta 36s files 6/17 phase moving',
      {
        percent: 45,
        bytes: 7.23e9,
        total: 16.06e9,
        bytesPerSecond: 243e6,
        secondsLeft: 36,
        files: 6,
        totalFiles: 17,
        phase: 'moving',
      },
    ],
    ['progress 1% 1/100 B 2.5 MB/s eta 0s files 0/1 phase hashing', { bytesPerSecond: 2.5e6, secondsLeft: 0 }],
    [
      'progress 0% 0/0 B - MB/s eta - files 0/0 phase installing',
      { bytesPerSecond: undefined, secondsLeft: undefined, phase: 'installing' },
    ],
  ])('%s', (line, numbers) => expect(parseProgress(line)).toMatchObject(numbers))

  test.each(['', 'plan: 3 files', 'progress', 'progress 45% of nothing'])('is not %j', (line) =>
    expect(parseProgress(line)).toBeUndefined(),
  )
})

describe('a termination message', () => {
  test('of success', () => {
    const message = {
      state: 'done',
      commit: 'c',
      files: 2,
      bytes: 3,
      moved: 1,
      files_moved: 1,
      seconds: 1.5,
      revision: 'main',
      level: 'sizes',
      unknown: ['x'],
    }
    expect(parseReport(JSON.stringify(message))).toEqual({
      state: 'done',
      commit: 'c',
      files: 2,
      bytes: 3,
      moved: 1,
      filesMoved: 1,
      seconds: 1.5,
      unknown: ['x'],
    })
  })

  test('of failure', () => {
    const message = { state: 'failed', cause: 'gated', detail: 'd', next: 'n', missing: [], wrong: ['w'] }
    expect(parseReport(JSON.stringify(message))).toEqual({
      state: 'failed',
      cause: 'gated',
      detail: 'd',
      next: 'n',
      paths: { wrong: ['w'] },
    })
  })

  test('whose lists were cut to fit', () => {
    const wrong = { wrong: ['w'], wrong_files: 3, missing: ['m'], missing_files: 1 }
    expect(parseReport(JSON.stringify({ state: 'failed', ...wrong }))).toMatchObject({ more: { wrong: 2 } })
    expect(listPaths(['v', 'w'], 2)).toBe('v, w and 2 more')
    expect(listPaths(['v', 'w'])).toBe('v, w')
  })

  test.each([
    undefined,
    '',
    'Traceback (most recent call last)',
    '{"state":"d',
    '[]',
    'null',
    '{}',
    '{"state":"else"}',
  ])('is not %j', (text) => expect(parseReport(text)).toBeUndefined())
})

test.each([
  ['50Gi', 50 * 2 ** 30],
  ['1.5G', 1.5e9],
  ['1e9', 1e9],
  ['1E', 1e18],
  ['100', 100],
  ['100m', 0.1],
  ['.5Ki', 512],
  ['', undefined],
  ['5 Gi', undefined],
  ['Gi', undefined],
  ['5gb', undefined],
])('quantity %s is %s', (text, number) => expect(parseQuantity(text)).toBe(number))

test.each([
  [0, '0 B'],
  [999, '999 B'],
  [1000, '1.0 kB'],
  [16_060_000_000, '16.1 GB'],
  [243_000_000, '243 MB'],
  [999_950_000, '1.0 GB'],
  [3e15, '3000 TB'],
])('%d bytes read %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text))

test.each([
  [0.04, '0.0 s'],
  [9.96, '10.0 s'],
  [65, '65 s'],
  [250, '4 min 10 s'],
  [7500, '2 h 5 min'],
])('%d seconds read %s', (seconds, text) => expect(formatSeconds(seconds)).toBe(text))

test('the story has one line a step, further lines indented below', () => {
  const said: string[] = []
  const story = new Story((text) => said.push(text))
  story.begun('to Spaces', 'Job x started')
  story.failed('to NFS', 'first\nsecond')
  story.detail('next')
  expect(said.join('')).toBe('• to Spaces  Job x started\n✗ to NFS     first\n             second\n             next\n')
  expect(lineOf('✓', 'files', '')).toBe('✓ files')
})

test('a colour takes no room', () => {
  const told = [true, false].map((color) => {
    const said: string[] = []
    const story = new Story((text) => said.push(text), { live: true, color, columns: () => 80 })
    story.failed('preflight', 'the kubeconfig /tmp/k has no context do-nyc2-gtc-demo: it has other ones')
    return stripVTControlCharacters(said.join(''))
  })
  expect(told[0]).toBe(told[1])
})

test('where lines are not drawn a narrow terminal changes nothing', () => {
  const said: string[] = []
  const story = new Story((text) => said.push(text), { live: false, color: false, columns: () => 40 })
  story.begun('to Spaces', 'Job j started')
  expect(said).toEqual(['• to Spaces  Job j started\n'])
})

test('on a narrow terminal no column is kept free below the titles', () => {
  const said: string[] = []
  const story = new Story((text) => said.push(text), { live: true, color: false, columns: () => 40 })
  story.begun('to Spaces', 'Job j started')
  story.detail('pod p runs')
  story.failed('', 'no')
  expect(said).toEqual(['• to Spaces: Job j started\n', '  pod p runs\n', '✗ no\n'])
  said.length = 0
  story.opened('setup-model', 'meta-llama/Llama-3.1-8B-Instruct -> s3://b')
  expect(said.join('')).toBe('setup-model\n  meta-llama/Llama-3.1-8B-Instruct ->\n  s3://b\n')
})

test.each([
  [20, 'a b c', ['a b c']],
  [12, 'no word is broken here', ['no word is', 'broken here']],
  [9, 'one longword-beyond-it two', ['one', 'longword-beyond-it', 'two']],
  [12, '- what is wrong with it', ['- what is', '  wrong with', '  it']],
  [30, 'to stop it: kubectl --context c -n n delete job x', ['to stop it:', 'kubectl --context c -n n delete job x']],
  [
    30,
    'look: kubectl --context c describe pod p; then run again: /a b/scripts/verify.mts --model x/y --level hashes',
    [
      'look:',
      'kubectl --context c describe pod p;',
      'then run again: /a',
      'b/scripts/verify.mts --model x/y --level hashes',
    ],
  ],
  [
    24,
    "run it again: make verify MODEL=a/b ARGS='--level hashes', or wait",
    ['run it again:', "make verify MODEL=a/b ARGS='--level hashes',", 'or wait'],
  ],
  [
    24,
    "run make fix-pvc CONTEXT=$'a b' MODEL_PVC=p, then x",
    ['run', "make fix-pvc CONTEXT=$'a b' MODEL_PVC=p,", 'then x'],
  ],
  [
    24,
    'run /a/scripts/model-to-nfs.mts --model a/b for this model: it moves what is missing',
    ['run', '/a/scripts/model-to-nfs.mts --model a/b', 'for this model: it moves', 'what is missing'],
  ],
])('at %i columns %j is told in lines whose commands are whole', (width, line, lines) =>
  expect(wrapLine(line, width)).toEqual(lines),
)

test('on a terminal lines are broken at words and stay below each other; elsewhere they are left to grep', () => {
  const shown = (live: boolean, columns: number) => {
    const said: string[] = []
    new Story((text) => said.push(text), { live, color: false, columns: () => columns }).done(
      'to NFS',
      `${'word '.repeat(14)}end`,
    )
    return said.join('').split('\n').slice(0, -1)
  }
  expect(shown(true, 80)).toEqual([`✓ to NFS     ${'word '.repeat(13)}`.trimEnd(), `             word end`])
  expect(shown(true, 40)).toEqual([
    '✓ to NFS: word word word word word word',
    '  word word word word word word word',
    '  word end',
  ])
  expect(shown(false, 40)).toHaveLength(1)
})

test('a result is broken as the story is where it is shown, and stays as it is where it is read', () => {
  const result = [
    lineOf('✓', 'files', '13 files, 16.1 GB: names and sizes agree with the evidence on the volume'),
    lineOf('✗', 'jobs', 'there is no Job j; run make model-to-nfs MODEL=acme/a-model-with-a-long-name'),
    's3://a-bucket/models/acme/a-model-with-a-long-name/ 0123456789abcdef',
  ]
  const shown = (columns: number, live = true) =>
    layOutResult(result.join('\n'), { live, color: false, columns: () => columns }).split('\n')
  expect(shown(40)).toEqual([
    '✓ files: 13 files, 16.1 GB: names and',
    '  sizes agree with the evidence on the',
    '  volume',
    '✗ jobs: there is no Job j; run',
    '  make model-to-nfs MODEL=acme/a-model-with-a-long-name',
    's3://a-bucket/models/acme/a-model-with-a-long-name/',
    '0123456789abcdef',
  ])
  expect(shown(80)).toEqual([
    '✓ files      13 files, 16.1 GB: names and sizes agree with the evidence on the',
    '             volume',
    '✗ jobs       there is no Job j; run',
    '             make model-to-nfs MODEL=acme/a-model-with-a-long-name',
    result[2],
  ])
  expect(shown(40, false)).toEqual(result)
})

describe('a bar', () => {
  const progress = parseProgress(
    'progress 61% 9800000000/16100000000 B 241 MB/s eta 26s files 8/13 phase moving',
  ) as Progress

  test.each([
    [100, '             ━━━━━━━━━━━━━━━            61 %  9.8 GB of 16.1 GB  241 MB/s  26 s left  8 of 13 files'],
    [80, '             ━━━━━━━━━━━━          61 %  9.8 GB of 16.1 GB  241 MB/s  26 s left'],
    [60, '             ━━━━━━╸      61 %  9.8 GB of 16.1 GB  241 MB/s'],
    [40, '  ━━━━━━━       61 %  9.8 GB of 16.1 GB'],
    [24, '  61 %  9.8 GB of 16.1 '],
  ])('fits %i columns', (columns, line) => {
    expect(progressBar(progress, columns)).toBe(line)
    expect(line.length).toBeLessThan(columns)
  })

  test('names a phase other than moving, and only the phase before there are bytes', () => {
    const hashing = 'progress 5% 5/100 B - MB/s eta - files 0/2 phase hashing'
    expect(progressSentence(parseProgress(hashing) as Progress)).toBe('hashing 5 %   5 B of 100 B   0 of 2 files')
    const first = 'progress 0% 20000/100000000 B 0.0 MB/s eta 29100s files 4/9 phase moving'
    expect(progressSentence(parseProgress(first) as Progress)).toBe('0 %   20.0 kB of 100 MB   4 of 9 files')
    const installing = 'progress 0% 0/0 B - MB/s eta - files 0/0 phase installing'
    expect(progressSentence(parseProgress(installing) as Progress)).toBe('installing')
    const planning = parseProgress('progress 0% 0/9000000 B - MB/s eta - files 0/9 phase planning') as Progress
    expect([progressSentence(planning), progressBar(planning, 80).trim()], 'nothing moves').toEqual([
      'planning',
      'planning',
    ])
  })
})

describe('a terminal', () => {
  test.each([
    [{ isTTY: true }, {}, true, true],
    [{ isTTY: true }, { NO_COLOR: '1' }, true, false],
    [{ isTTY: true }, { TERM: 'dumb' }, false, false],
    [{ isTTY: true }, { CI: 'true' }, false, false],
    [{}, {}, false, false],
  ])('%o under %o: live %s, colour %s', (stream, env, live, color) =>
    expect(terminalOf(stream, env)).toMatchObject({ live, color }),
  )

  test('has one line of progress that gives way to what is said, and heartbeats elsewhere', () => {
    const at = (percent: number) =>
      parseProgress(`progress ${percent}% ${percent}/100 B - MB/s eta - files 0/1 phase moving`) as Progress
    const shown = (live: boolean) => {
      const said: string[] = []
      const story = new Story((text) => said.push(text), { live, color: false, columns: () => 60 })
      for (const percent of [1, 2, 3, 7]) story.progress(at(percent))
      story.done('to NFS', 'all there')
      return said.join('')
    }
    expect(shown(true).split('\r\u001b[2K').length - 1).toBe(5)
    expect(shown(true).endsWith('\r\u001b[2K✓ to NFS     all there\n')).toBe(true)
    expect(shown(false).match(/\d %/g)).toEqual(['1 %', '7 %'])
  })

  test('elsewhere has a line every ten seconds, however little has moved', () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    try {
      const said: string[] = []
      const story = new Story((text) => said.push(text))
      const second = (now: number) => {
        said.length = 0
        const line = `progress 1% ${now}/9000 B - MB/s eta - files 0/1 phase moving`
        story.progress(parseProgress(line) as Progress)
        vi.advanceTimersByTime(1000)
        return said.length > 0
      }
      const told = Array.from({ length: 61 }, (_, now) => now).filter(second)
      expect(told).toEqual([0, 10, 20, 30, 40, 50, 60])
    } finally {
      vi.useRealTimers()
    }
  })

  test("draws a pod's phase too, below what is told meanwhile; elsewhere it is a sentence", () => {
    const shown = (live: boolean, columns = 60) => {
      const said: string[] = []
      const story = new Story((text) => said.push(text), { live, color: false, columns: () => columns })
      story.phase({ short: 'pulling image', sentence: 'pod p is pulling image i on n' })
      story.detail('commit c')
      story.done('to NFS', 'all there')
      return said.join('').split('\r\u001b[2K')
    }
    const [indent, drawn] = [' '.repeat(13), `${' '.repeat(13)}pulling image`]
    expect(shown(true)).toEqual(['', drawn, `${indent}commit c\n`, drawn, '✓ to NFS     all there\n'])
    expect(shown(true, 12)[1]).toBe('  pulling i')
    const said: string[] = []
    const story = new Story((text) => said.push(text), { live: true, color: false, columns: () => 60 })
    story.phase({ short: 'pulling image', sentence: '' })
    story.clear()
    story.clear()
    expect(said.slice(1), 'gone before a result that goes elsewhere').toEqual(['\r\u001b[2K'])
    expect(shown(false)).toEqual([
      `${indent}pod p is pulling image i on n\n${indent}commit c\n✓ to NFS     all there\n`,
    ])
  })
})

test('a name draws no lines of ours, and moves no cursor', () => {
  expect(formatPrintable('a\n✓ verdict\u001b[31m\tb\u009b')).toBe('a\\x0a✓ verdict\\x1b[31m\tb\\x9b')
  const said: string[] = []
  new Story((text) => said.push(text)).detail('two\nlines, and\u001b[2K one word')
  expect(said.join('')).toBe(`${' '.repeat(13)}two\n${' '.repeat(13)}lines, and\\x1b[2K one word\n`)
})

test.each([
  [['a'], 'a'],
  [['a', 'b', 'c'], 'a, b, c'],
  [['a', 'b', 'c', 'd', 'e'], 'a, b, c and 2 more'],
])('three of %j: %s', (names, list) => expect(formatList(names, 3)).toBe(list))
