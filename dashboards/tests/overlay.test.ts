import { describe, expect, it } from 'vitest';
import type { Series, SqlAnswer } from '../src/api/client';
import { bucketAt, linesOf, LINES_MAX, lonelyRows, refusal, unitsOf, type Line } from '../src/lib/overlay';
import { joined } from '../src/lib/overlayplot';
import type { Buckets } from '../src/lib/series';

const buckets = (t: number[]): Buckets => ({ t, min: t.map(() => 0), max: t.map(() => 2), mean: t.map(() => 1), last: t.map(() => 1), count: t.map(() => 1) });
const line = (id: string, t: number[], earlier: number[] | null = null): Line => (
  { id, unit: 'Cel', whole: false, buckets: buckets(t), tier: 'raw', earlier: earlier && buckets(earlier), earlierTier: '' });
const series = (id: string, unit = 'Cel', type = 'float'): Series => (
  { id, device: id.split('/')[0], point: id.split('/')[1], unit, type, name: '', last: null, count: 1, keep: { readings: 'forever', rollups: ['1m', '1h', '1d'], by_profile: false } });
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

describe('lines along one axis of time', () => {
  it('break at their own gaps, whatever times the others have there', () => {
    const gappy = [...range(0, 10), ...range(30, 40)];
    const whole = range(0, 40).map((t) => t + 0.5);
    const [x, , , mean] = joined([line('a/x', gappy), line('b/y', whole)], 1, 0);
    const inGap = (mean as (number | null | undefined)[]).filter((_, row) => x[row] > 9 && x[row] < 30);
    expect(inGap.length).toBeGreaterThan(10);
    expect(inGap.every((v) => v === null)).toBe(true);
  });

  it('go on where only others have a time', () => {
    const [x, , , mean] = joined([line('a/x', range(0, 10)), line('b/y', [4.5])], 1, 0);
    expect(mean[(x as number[]).indexOf(4.5)]).toBeUndefined();
  });

  it('have the earlier period moved over the one that is shown', () => {
    const [x, , , now, earlier] = joined([line('a/x', range(100, 110), range(0, 10))], 1, 100);
    expect(x).toEqual(range(100, 110));
    expect(now).toEqual(earlier);
  });

  it('show buckets that no line reaches as dots', () => {
    const t = [0, 1, 2, 50, 100, 101, 102];
    const x = joined([line('a/x', t)], 1, 0)[0] as number[];
    expect(lonelyRows(x, buckets(t), 1).map((row) => x[row])).toEqual([50]);
  });
});

describe('choosing series', () => {
  it('refuses texts, too many lines and too many units', () => {
    expect(refusal(series('a/x', '', 'text'), [])).toBe('text');
    expect(refusal(series('a/x'), range(0, LINES_MAX).map((n) => series(`b/${n}`)))).toBe('lines');
    expect(refusal(series('a/x'), ['A', 'V', 'W', 'Hz'].map((unit) => series(`b/${unit}`, unit)))).toBe('units');
    expect(refusal(series('a/x', 'V'), ['A', 'V', 'W', 'Hz'].map((unit) => series(`b/${unit}`, unit)))).toBeNull();
    expect(unitsOf([series('a/x'), series('a/y', 'A'), series('a/z')])).toEqual(['Cel', 'A']);
  });
});

describe('the bucket at a time', () => {
  it('is the one that holds it, and none in a gap', () => {
    const b = buckets([0, 10, 50]);
    expect(bucketAt(b, 14, 10)).toBe(1);
    expect(bucketAt(b, 45, 10)).toBe(-1);
    expect(bucketAt(b, -1, 10)).toBe(-1);
  });
});

describe('lines of an answer of SQL', () => {
  const answer = (columns: [string, string][], rows: SqlAnswer['rows']): SqlAnswer => ({ columns: columns.map(([name, type]) => ({ name, type })), rows });

  it('are one for each text and column of numbers, in order of time', () => {
    const lines = linesOf(answer([['d', 'string'], ['t', 'timestamp'], ['v', 'double']], [['a', 2, 5], ['b', 1, 7], ['a', 1, 3], ['a', 2, 9], ['a', 3, 'NaN'], ['b', null, 1]]));
    expect(lines?.map(({ id, buckets: { t, min, max } }) => [id, t, min, max])).toEqual([['b v', [1], [7], [7]], ['a v', [1, 2], [3, 5], [3, 9]]]);
  });

  it('are none without times or numbers, or when there are too many', () => {
    expect(linesOf(answer([['v', 'double']], [[1]]))).toBeNull();
    expect(linesOf(answer([['t', 'timestamp']], [[1]]))).toBeNull();
    expect(linesOf(answer([['t', 'timestamp'], ['v', 'double']], []))).toBeNull();
    expect(linesOf(answer([['d', 'string'], ['t', 'timestamp'], ['v', 'double']], range(0, 9).map((n) => [`d${n}`, 1, n])))).toBeNull();
  });
});
