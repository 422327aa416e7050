import { describe, expect, it } from 'vitest';
import { lateBands, lateSums, lateTitle } from '../src/lib/lates';

const HOUR = 3_600_000;
const one = (from_ms: number, to_ms: number, rows = 1, delay_ms = 0, device = 'd') => ({
  device, from_ms, to_ms, rows, delay_ms, came_from_ms: to_ms + delay_ms, came_to_ms: to_ms + delay_ms,
});

describe('late ranges', () => {
  it('are cut to the window, but told as a whole', () => {
    const bands = lateBands([one(90, 120, 5, 7), one(0, 20), one(200, 210)], 10, 100, 0);
    expect(bands.map(({ from, to, whole }) => [from, to, whole])).toEqual([
      [10, 20, { from: 0, to: 20 }],
      [90, 100, { from: 90, to: 120 }],
    ]);
  });

  it('that lie too close to tell apart are one, with all readings and the longest way', () => {
    const bands = lateBands([one(22, 30, 4, 9), one(10, 20, 3, 60)], 0, 100, 5);
    expect(bands).toEqual([{ from: 10, to: 30, rows: 7, delay: 60, whole: { from: 10, to: 30 }, came: { from: 39, to: 80 } }]);
  });

  it('say on hover how many readings came, and never less than how late', () => {
    const [band] = lateBands([one(0, 600_000, 1200, 119 * 60_000)], 0, HOUR, 0);
    expect(lateTitle(band)).toMatch(/^Came late: 1\u202f200 readings of .*, up to 2 h after their time\nNewer ones were there already; came /);
    const [single] = lateBands([one(0, 0, 1, 61_000)], 0, HOUR, 0);
    expect(lateTitle(single)).toMatch(/^Came late: 1 reading of .*, up to 2 min after its time/);
  });

  it('are summed up by device', () => {
    expect(lateSums([one(0, 1, 2, HOUR), one(5, 6, 3, 1000), one(0, 1, 1, 26 * HOUR, 'e')])).toBe('5 of d, up to 1 h; 1 of e, up to 2 d');
  });
});
