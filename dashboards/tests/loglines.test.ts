import { describe, expect, test } from 'vitest';
import { folded } from '../src/lib/commands';
import { joined, LINES_KEPT_MAX, linesOfLog, logLines, ofLevel } from '../src/lib/loglines';

const line = (n: number): string => `2026-11-23T09:00:${String(n % 60).padStart(2, '0')}Z  INFO line ${n}`;
const range = (from: number, to: number): string[] => Array.from({ length: to - from }, (_, i) => line(from + i));

describe('lines of a log', () => {
  test('have the level that they name, or that of the line before them', () => {
    const lines = logLines(['from before', '2026-11-23T09:00:00Z  WARN disk: full', '  at spool', '2026-11-23T09:00:01Z ERROR no line to the hub', '2026-11-23T09:00:02Z  INFO an ERROR was healed']);
    expect(lines.map(({ level }) => level)).toEqual([null, 'warn', 'warn', 'error', 'info']);
    expect(ofLevel(lines, 'warn').map(({ text }) => text.slice(-4))).toEqual(['fore', 'full', 'pool', ' hub']);
    expect(ofLevel(lines, 'trace').length).toBe(5);
  });

  test('go on where they were told before, each once', () => {
    expect(joined([], range(0, 3))).toEqual({ lines: range(0, 3), hole: false });
    expect(joined(range(0, 5), range(2, 8))).toEqual({ lines: range(0, 8), hole: false });
    expect(joined(range(3, 5), range(0, 8))).toEqual({ lines: range(3, 8), hole: false });
    expect(joined(range(0, 5), range(0, 5))).toEqual({ lines: range(0, 5), hole: false });
    expect(joined(['a', 'a', 'b'], ['a', 'b', 'a', 'b', 'c'])).toEqual({ lines: ['a', 'a', 'b', 'a', 'b', 'c'], hole: false });
  });

  test('tell when some between may be missing', () => {
    expect(joined(range(0, 5), range(9, 12))).toEqual({ lines: [...range(0, 5), ...range(9, 12)], hole: true });
    expect(joined(range(0, 5), []).hole).toBe(false);
  });

  test('are kept up to a bound, the newest of them', () => {
    let known: string[] = [];
    for (let n = 0; n < 5000; n += 50) known = joined(known, range(n, n + 100)).lines;
    expect([known.length, known[known.length - 1]]).toEqual([LINES_KEPT_MAX, line(5049)]);
  });

  test('end with the last line that has something', () => {
    expect(linesOfLog('a\n\nb\n')).toEqual(['a', '', 'b']);
    expect(linesOfLog('')).toEqual([]);
  });
});

test('questions for a log that follow each other are one in the list, and none that failed is hidden', () => {
  const of = (kind: string, state: 'succeeded' | 'failed' | 'running', id: number) => ({ kind, state, id });
  const list = [of('logs', 'running', 9), of('logs', 'succeeded', 8), of('logs', 'succeeded', 7), of('logs', 'failed', 6), of('logs', 'succeeded', 5), of('sync', 'succeeded', 4), of('logs', 'succeeded', 3), of('logs', 'succeeded', 2)];
  expect(folded(list).map(({ id }) => id)).toEqual([9, 8, 6, 5, 4, 3]);
});
