import { describe, expect, it } from 'vitest';
import * as t from '../src/lib/time';

const HOUR = 3_600_000;
const NOW = Date.UTC(2026, 10, 22, 12);
const last = (ms: number): t.Range => ({ kind: 'last', ms });

describe('lengths', () => {
  it('reads what it writes', () => {
    for (const text of ['90s', '15m', '6h', '24h', '3d', '7d', '30d']) {
      expect(t.lengthText(t.parseLength(text) ?? 0)).toBe(text);
    }
  });

  it('refuses what is no length, or one that cannot be shown', () => {
    for (const text of ['', '5', 'm', '-5m', '1.5h', '0s', '5 years', '999999999w', '1e3s']) expect(t.parseLength(text)).toBeNull();
  });
});

describe('ranges', () => {
  it('ends now, or where it was fixed', () => {
    expect(t.spanOf(last(HOUR), NOW, null)).toEqual({ from: NOW - HOUR, to: NOW });
    expect(t.spanOf(t.fixed(5000, 9000), NOW, null)).toEqual({ from: 5000, to: 9000 });
  });

  it('begins with the data when all of it is shown, and is never empty', () => {
    expect(t.spanOf({ kind: 'all' }, NOW, 1000)).toEqual({ from: 1000, to: NOW });
    expect(t.spanOf({ kind: 'all' }, NOW, NOW)).toEqual({ from: NOW - 60_000, to: NOW });
  });

  it('takes two moments in either order and is at least a second long', () => {
    expect(t.fixed(9000, 5000)).toEqual(t.fixed(5000, 9000));
    expect(t.fixed(5000, 5001)).toEqual({ kind: 'fixed', from: 4500, to: 5501 });
  });

  it('is moved by half of its length', () => {
    const back = t.shift(last(2 * HOUR), NOW, -1);
    expect(back).toEqual({ kind: 'fixed', from: NOW - 3 * HOUR, to: NOW - HOUR });
    expect(t.shift(t.fixed(NOW - 9 * HOUR, NOW - 7 * HOUR), NOW, 1)).toEqual(t.fixed(NOW - 8 * HOUR, NOW - 6 * HOUR));
  });

  it('goes along with now again when it is moved up to it', () => {
    expect(t.shift(t.shift(last(2 * HOUR), NOW, -1), NOW, 1)).toEqual(last(2 * HOUR));
  });

  it('is not moved before the beginning of time', () => {
    expect(t.shift(t.fixed(0, HOUR), NOW, -1)).toEqual(t.fixed(0, HOUR));
  });

  it('is twice as long when zoomed out, and not beyond now', () => {
    expect(t.zoomOut(last(HOUR), NOW)).toEqual(last(2 * HOUR));
    expect(t.zoomOut(t.fixed(NOW - 9 * HOUR, NOW - 7 * HOUR), NOW)).toEqual(t.fixed(NOW - 10 * HOUR, NOW - 6 * HOUR));
    expect(t.zoomOut(t.fixed(NOW - 2 * HOUR, NOW), NOW)).toEqual(t.fixed(NOW - 4 * HOUR, NOW));
    expect(t.zoomOut({ kind: 'all' }, NOW)).toEqual({ kind: 'all' });
    expect(t.zoomOut(last(t.SPAN_MAX_MS), NOW)).toEqual(last(t.SPAN_MAX_MS));
  });
});

describe('addresses', () => {
  it('find their way back', () => {
    for (const range of [last(90_000), last(24 * HOUR), { kind: 'all' } as t.Range, t.fixed(NOW - HOUR, NOW)]) {
      expect(t.fromParams(new URLSearchParams(t.toParams(range)))).toEqual(range);
    }
  });

  it('take Unix ms and names of zones', () => {
    expect(t.fromParams(new URLSearchParams('from=1000&to=5000'))).toEqual(t.fixed(1000, 5000));
    expect(t.fromParams(new URLSearchParams({ from: '1970-01-01T01:00:01+01:00', to: '5000' }))).toEqual(t.fixed(1000, 5000));
  });

  it('name no range that cannot be shown', () => {
    for (const text of ['', 'range=', 'range=x', 'from=5', 'from=9000&to=5000', 'from=-5&to=5000', 'from=a&to=b', 'range=0s']) {
      expect(t.fromParams(new URLSearchParams(text))).toBeNull();
    }
  });
});

describe('fields', () => {
  it('are read in the zone that they are written in', () => {
    for (const zone of [null, 'Etc/UTC', 'Europe/Berlin', 'Asia/Kathmandu']) expect(t.parseField(t.fieldText(NOW, zone), zone)).toBe(NOW);
    expect(t.fieldText(NOW, 'Etc/UTC')).toBe('2026-11-22T12:00:00');
    expect(t.fieldText(NOW, 'Asia/Kathmandu')).toBe('2026-11-22T17:45:00');
  });

  it('name the same moment when the clock becomes another', () => {
    const tokyo = t.fieldText(NOW, 'Asia/Tokyo');
    expect(t.inClock(tokyo, 'Asia/Tokyo', 'Etc/UTC')).toBe('2026-11-22T12:00:00');
    expect(t.inClock(t.inClock(tokyo, 'Asia/Tokyo', null), null, 'Asia/Tokyo')).toBe(tokyo);
    expect(t.inClock('soon', 'Asia/Tokyo', null)).toBe('soon');
  });

  it('may leave out the seconds, and nothing else', () => {
    expect(t.parseField('2026-11-22T12:00', 'Etc/UTC')).toBe(NOW);
    for (const text of ['', '2026-11-22', '12:00', '2026-13-40T12:00', 'x2026-11-22T12:00']) expect(t.parseField(text, 'Etc/UTC')).toBeNull();
  });
});
