import { describe, expect, it } from 'vitest';
import type { RawAnswer } from '../src/api/client';
import * as d from '../src/lib/doubts';

describe('readings that are not good', () => {
  it('are those of another quality and those without a value', () => {
    expect(d.doubtOf(1, 'good')).toBeNull();
    expect(d.doubtOf(0, 'bad')).toBe('bad');
    expect(d.doubtOf(null, 'uncertain')).toBe('uncertain');
    expect(d.doubtOf(null, 'good')).toBe('no value');
  });

  it('are kept in order of time, each once, from the range on', () => {
    const doubts: d.Doubt[] = [];
    for (const t of [30, 10, 20, 10]) d.addDoubt(doubts, { t, what: 'bad' });
    d.addDoubt(doubts, { t: 10, what: 'uncertain' });
    expect(doubts.map(({ t, what }) => [t, what])).toEqual([[10, 'uncertain'], [10, 'bad'], [20, 'bad'], [30, 'bad']]);
    d.trimDoubts(doubts, 20);
    expect(doubts.map(({ t }) => t)).toEqual([20, 30]);
    d.trimDoubts(doubts, 31);
    expect(doubts).toEqual([]);
  });

  it('are drawn as one where they lie close, and counted', () => {
    const doubts = [{ t: 1, what: 'bad' }, { t: 3, what: 'bad' }, { t: 4, what: 'uncertain' }, { t: 50, what: 'bad' }, { t: 99, what: 'bad' }];
    const marks = d.doubtMarks(doubts, 2, 60, 5);
    expect(marks.map((mark) => [mark.from, mark.to, [...mark.counts]])).toEqual([
      [3, 4, [['bad', 1], ['uncertain', 1]]],
      [50, 50, [['bad', 1]]],
    ]);
    expect(d.doubtTitle(marks[0])).toMatch(/^Left out of the line: 1 bad, 1 uncertain\n/);
  });
});

describe('doubts of several series', () => {
  it('stand along one time, each with whose it is', () => {
    const answer = (id: string, quality: string[]): RawAnswer => ({
      series: [{ id, unit: '', type: 'float', tier: 'raw', t: quality.map((_, i) => i), t_ns: quality.map((_, i) => `${i}000000`), v: quality.map(() => 1), quality }],
      next: null, partial: false, gaps: [], restamped: [], late: [], missing: [],
    } as unknown as RawAnswer);
    const found = d.doubtsOf([answer('a/x', ['good', 'bad']), answer('b/y', ['uncertain', 'good'])]);
    const all = d.together(found ?? new Map());
    expect(all).toEqual([{ t: 0, what: 'uncertain (b/y)' }, { t: 1, what: 'bad (a/x)' }]);
    expect(d.doubtMarks(all, 0, 9, 0).map(d.isBad)).toEqual([false, true]);
    expect(d.doubtsOf([{ ...answer('a/x', ['bad']), next: 'more' }])).toBeNull();
  });
});
