import { describe, expect, it } from 'vitest';
import type { BucketColumns, QueryGap } from '../src/api/client';
import * as s from '../src/lib/series';
import { markTitle } from '../src/lib/stamps';

function buckets(times: number[], v = 1): s.Buckets {
  const b = s.emptyBuckets();
  for (const t of times) s.mergeLive(b, 1, t, v);
  return b;
}

describe('taking over a query', () => {
  it('keeps columns together and leaves out buckets without a finite mean', () => {
    const columns = {
      id: 'a/b', unit: '', tier: 'raw',
      t: [0, 10, 20], min: [1, null, 3], max: [2, null, 4], mean: [1.5, null, 3.5], last: [2, null, 4], count: [2, 0, 2],
    } as unknown as BucketColumns;
    expect(s.fromColumns(columns)).toEqual({ t: [0, 20], min: [1, 3], max: [2, 4], mean: [1.5, 3.5], last: [2, 4], count: [2, 2] });
  });
});

describe('merging live readings', () => {
  it('opens the next bucket aligned to the width', () => {
    const b = s.emptyBuckets();
    expect(s.mergeLive(b, 1000, 12_345, 7)).toBe('appended');
    expect(b.t).toEqual([12_000]);
    expect(s.mergeLive(b, 1000, 13_001, 8)).toBe('appended');
    expect(b.t).toEqual([12_000, 13_000]);
  });

  it('widens the newest bucket and keeps its mean', () => {
    const b = s.emptyBuckets();
    s.mergeLive(b, 1000, 0, 1);
    expect(s.mergeLive(b, 1000, 400, 4)).toBe('merged');
    expect(s.mergeLive(b, 1000, 999, 1)).toBe('merged');
    expect(b).toEqual({ t: [0], min: [1], max: [4], mean: [2], last: [1], count: [3] });
  });

  it('calls a reading before the newest bucket late and changes nothing', () => {
    const b = buckets([1000, 2000]);
    const before = structuredClone(b);
    expect(s.mergeLive(b, 1, 1500, 9)).toBe('late');
    expect(b).toEqual(before);
  });

  it('never lets times go back when the width differs from the hub\'s', () => {
    const b = buckets([1990]);
    s.mergeLive(b, 1, 1990, 1);
    expect(s.mergeLive(b, 7, 1997.5, 1)).toBe('appended');
    expect(b.t[1]).toBeGreaterThan(b.t[0]);
  });

  it('ignores what is no number', () => {
    const b = s.emptyBuckets();
    s.mergeLive(b, 1, 5, Number.NaN);
    expect(b.t).toEqual([]);
  });
});

describe('windows', () => {
  it('counts the buckets inside, both ends included', () => {
    expect(s.countWithin([1, 2, 3, 4], 2, 3)).toBe(2);
    expect(s.countWithin([], 0, 9)).toBe(0);
  });

  it('trims what is older but one bucket that leads in', () => {
    const b = buckets([1, 2, 3, 4, 5]);
    s.trimBefore(b, 4);
    expect(b.t).toEqual([3, 4, 5]);
    expect(b.mean).toHaveLength(3);
  });
});

describe('splitting at gaps', () => {
  it('draws an even series as one line', () => {
    const d = s.splitGaps(buckets([0, 10, 20, 30]), 10);
    expect(d.x).toEqual([0, 10, 20, 30]);
    expect(d.mean).not.toContain(null);
    expect(d.lonely).toEqual([]);
  });

  it('breaks the line where readings are missing', () => {
    const d = s.splitGaps(buckets([0, 10, 20, 100, 110]), 1);
    expect(d.x).toEqual([0, 10, 20, 60, 100, 110]);
    expect(d.mean[3]).toBeNull();
    expect(d.min[3]).toBeNull();
    expect(d.max[3]).toBeNull();
  });

  it('bears three times the usual pace, and twice the bucket width', () => {
    expect(s.splitGaps(buckets([0, 10, 20, 50, 60]), 1).mean).not.toContain(null);
    expect(s.splitGaps(buckets([0, 10, 20, 51, 61]), 1).mean).toContain(null);
    expect(s.splitGaps(buckets([0, 10, 20, 51, 61]), 16).mean).not.toContain(null);
  });

  it('names points that no line reaches', () => {
    const d = s.splitGaps(buckets([0, 1, 2, 3, 50, 99, 100, 101]), 1);
    expect(d.lonely).toEqual([5]);
    expect(d.x[5]).toBe(50);
    expect(s.splitGaps(buckets([7]), 1).lonely).toEqual([0]);
  });

  it('fills again once the missing buckets are there', () => {
    const holed = buckets([0, 10, 20, 100, 110]);
    expect(s.splitGaps(holed, 10).mean).toContain(null);
    const whole = buckets([0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110]);
    expect(s.splitGaps(whole, 10).mean).not.toContain(null);
  });
});

describe('gap bands', () => {
  const gap = (from_ms: number, to_ms: number, rows = 1, cause = 'quota'): QueryGap => ({ device: 'd', from_ms, to_ms, rows, cause });

  it('cuts to the window and leaves out what lies outside', () => {
    const bands = s.gapBands([gap(90, 120), gap(0, 20), gap(200, 210)], 10, 100, 0);
    expect(bands).toEqual([
      { from: 10, to: 20, rows: 1, causes: ['quota'] },
      { from: 90, to: 100, rows: 1, causes: ['quota'] },
    ]);
  });

  it('joins what is too close to tell apart and adds the rows up', () => {
    const bands = s.gapBands([gap(10, 20, 3), gap(22, 30, 4, 'expired')], 0, 100, 5);
    expect(bands).toEqual([{ from: 10, to: 30, rows: 7, causes: ['quota', 'expired'] }]);
  });
});

describe('corrected times', () => {
  const one = (from_ms: number, to_ms: number, shift_ms: number | null) => ({ device: 'd', from_ms, to_ms, shift_ms });

  it('cuts what lies outside and keeps the order', () => {
    const marks = s.stampMarks([one(90, 120, 5), one(0, 20, null), one(200, 210, 5)], 10, 100, 0);
    expect(marks).toEqual([{ from: 10, to: 20, shifts: [null] }, { from: 90, to: 100, shifts: [5] }]);
  });

  it('joins what is too close to tell apart and names each correction once', () => {
    const marks = s.stampMarks([one(10, 20, 7), one(22, 30, 7), one(31, 40, null)], 0, 100, 5);
    expect(marks).toEqual([{ from: 10, to: 40, shifts: [7, null] }]);
  });

  it('says in words what was done', () => {
    const hour = 3_600_000;
    expect(markTitle({ from: 0, to: 1000, shifts: [3 * hour] })).toMatch(/^Times corrected by \+3 h\n/);
    expect(markTitle({ from: 0, to: 1000, shifts: [-2000, null] })).toMatch(/^Times corrected by −2 s; uncertain: .*clock was wrong/);
    const many = markTitle({ from: 0, to: 1000, shifts: [hour, 2 * hour, 3 * hour, 4 * hour, 5 * hour] });
    expect(many).toContain('and 2 other corrections');
  });
});

describe('finding the first reading', () => {
  const search = (first: number) => async (from: number, to: number) => {
    const width = Math.ceil((to - from) / 500);
    return first < from ? from : Math.floor(first / width) * width;
  };

  it('narrows down from 1970 to the hour of the data', async () => {
    const end = 1_795_271_000_000;
    const first = end - 3_600_000;
    const start = await s.findStart(end, search(first));
    expect(start).not.toBeNull();
    expect(Math.abs((start ?? 0) - first)).toBeLessThan(3_600_000);
  });

  it('tells that there is none', async () => {
    expect(await s.findStart(1000, async () => null)).toBeNull();
  });
});
