import { describe, expect, it } from 'vitest';
import { isZone, momentOf, offsetOf, shown } from '../src/lib/zoned';

const HOUR = 3_600_000;
const BERLIN = 'Europe/Berlin';

describe('the clock of a zone', () => {
  it('is ahead of UTC by what the zone had at that moment', () => {
    expect(offsetOf(BERLIN, Date.UTC(2026, 0, 1))).toBe(HOUR);
    expect(offsetOf(BERLIN, Date.UTC(2026, 6, 1))).toBe(2 * HOUR);
    expect(offsetOf('Asia/Kathmandu', Date.UTC(2026, 6, 1))).toBe(5.75 * HOUR);
    expect(offsetOf('America/St_Johns', Date.UTC(2026, 0, 1))).toBe(-3.5 * HOUR);
    expect(shown(BERLIN, Date.UTC(2026, 2, 29, 0, 59, 59)).toISOString()).toBe('2026-03-29T01:59:59.000Z');
    expect(shown(BERLIN, Date.UTC(2026, 2, 29, 1)).toISOString()).toBe('2026-03-29T03:00:00.000Z');
  });

  it('names moments back, on both sides of a change', () => {
    for (let ms = Date.UTC(2026, 2, 28, 12); ms < Date.UTC(2026, 2, 30); ms += HOUR / 4) expect(momentOf(BERLIN, shown(BERLIN, ms).getTime())).toBe(ms);
    // What comes twice in autumn is one of both.
    const twice = Date.UTC(2026, 9, 25, 2, 30);
    expect([Date.UTC(2026, 9, 25, 0, 30), Date.UTC(2026, 9, 25, 1, 30)]).toContain(momentOf(BERLIN, twice));
  });

  it('is that of UTC for a zone that is not known', () => {
    expect([isZone('Europe/Bonn'), offsetOf('Europe/Bonn', 0), isZone(BERLIN)]).toEqual([false, 0, true]);
  });
});
