import { describe, expect, it } from 'vitest';
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
