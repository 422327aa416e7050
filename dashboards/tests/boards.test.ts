import { describe, expect, test } from 'vitest';
import { EventText } from '../src/api/events';
import { newer } from '../src/api/last';
import { counted, figureOf, hourDay, levelOf, newestOf, seriesTime, sparkPath } from '../src/lib/boards/figures';
import { hoursOf } from '../src/lib/boards/hours';
import { bandText, limitsOf, spread } from '../src/lib/boards/limits';
import { compact, freeId, inOrder, meet, placed, room, within, type Placed } from '../src/lib/boards/grid';
import { begin, redo, step, STEPS_MAX, undo } from '../src/lib/boards/undo';
import { layReadings, makeSeen } from '../src/lib/boards/seen';
import { fromColumns, type Buckets } from '../src/lib/series';
import { staleAfter, stateStaleAfter } from '../src/lib/stale';

const MINUTE = 60_000;
const HOUR = 3_600_000;
const panel = (id: string, x: number, y: number, w: number, h: number): Placed => ({ id, x, y, w, h });
const at = (panels: Placed[], id: string): string => {
  const { x, y, w, h } = panels.find((one) => one.id === id) ?? panel('', -1, -1, 0, 0);
  return `${x} ${y} ${w} ${h}`;
};
const buckets = (rows: [number, number, number][]): Buckets => ({
  t: rows.map(([t]) => t), min: rows.map(([, mean]) => mean - 1), max: rows.map(([, mean]) => mean + 1), mean: rows.map(([, mean]) => mean), last: rows.map(([, mean]) => mean + 0.5), count: rows.map(([, , count]) => count),
});

describe('when a value is stale', () => {
  const span = { from: 0, to: HOUR };

  test('three readings of its own pace are missing', () => {
    const quarters = buckets([[0, 1, 1], [15 * MINUTE, 1, 1], [30 * MINUTE, 1, 1]]);
    expect(staleAfter(quarters, span)).toBe(45 * MINUTE);
    // Each bucket of ten minutes has five readings, but where it was away.
    const away = buckets([[0, 1, 5], [10 * MINUTE, 1, 5], [20 * MINUTE, 1, 5], [50 * MINUTE, 1, 1]]);
    expect(staleAfter(away, span)).toBe(6 * MINUTE);
  });

  test('no series is stale within a minute or live after three days', () => {
    expect(staleAfter(buckets([[0, 1, 1], [1000, 1, 1], [2000, 1, 1]]), span)).toBe(MINUTE);
    expect(staleAfter(buckets([[0, 1, 1], [48 * HOUR, 1, 1]]), { from: 0, to: 96 * HOUR })).toBe(72 * HOUR);
  });

  test('a state only where its readings come at a pace', () => {
    expect([stateStaleAfter({ pace: 0 }), stateStaleAfter({ pace: 1000 }), stateStaleAfter({ pace: 5 * MINUTE })]).toEqual([null, MINUTE, 15 * MINUTE]);
  });

  test('a slow series has the pace that is known of before the range, as long as the range tells none', () => {
    const minutes = { from: 0, to: 5 * MINUTE };
    expect([staleAfter(buckets([]), minutes), staleAfter(buckets([[0, 1, 1]]), minutes, 15 * MINUTE)]).toEqual([5 * MINUTE, 45 * MINUTE]);
    expect(staleAfter(buckets([[0, 1, 1], [30_000, 1, 1]]), minutes, 15 * MINUTE)).toBe(90_000);
  });

  test('without a pace the range says it', () => {
    expect(staleAfter(buckets([]), span)).toBe(HOUR);
    expect(staleAfter(buckets([[5, 1, 1]]), { from: 0, to: 1000 })).toBe(MINUTE);
  });
});

describe('bands', () => {
  const bands = [{ from: 49, to: 50, level: 'warn' as const }, { from: 50, level: 'bad' as const }, { to: 10, level: 'bad' as const }];

  test('are told by lines with labels at their ends', () => {
    expect(limitsOf(bands, 'Cel')).toEqual([
      { at: 10, level: 'bad', text: '10 °C: bad below' },
      { at: 49, level: 'warn', text: '49 °C: warning above' },
      { at: 50, level: 'bad', text: '50 °C: bad above, warning below' },
    ]);
    expect(limitsOf([], '')).toEqual([]);
  });

  test('are told by words in the legend', () => {
    expect(bands.map((band) => bandText(band, 'Cel'))).toEqual(['49 °C to below 50 °C', 'from 50 °C on', 'below 10 °C']);
    expect(bandText({ level: 'ok' }, '')).toBe('all values');
  });

  test('have labels that lie over no other and within the chart', () => {
    expect(spread([10, 12, 60], 13, 100)).toEqual([10, 23, 60]);
    expect(spread([90, 95, 99], 13, 100)).toEqual([74, 87, 100]);
    expect(spread([], 13, 100)).toEqual([]);
  });
});

describe('the last value', () => {
  const span = { from: 0, to: HOUR };
  const seenOf = (type: string): ReturnType<typeof makeSeen> => makeSeen({
    id: 'a/x', device: 'a', point: 'x', unit: '', type, name: '', last: null, count: 1,
    keep: { readings: 'forever', rollups: ['1m', '1h', '1d'], by_profile: false },
  });

  test('of a range that goes along is the newest reading, and no mean of a bucket', () => {
    const one = seenOf('float');
    one.line.buckets = buckets([[0, 10, 900]]);
    one.last = { t: 50 * MINUTE, v: 99, quality: 'uncertain' };
    expect(newestOf(one, span, false)).toEqual({ v: 99, quality: 'uncertain' });
    expect(newestOf(seenOf('float'), span, false)).toBeNull();
  });

  test('of a fixed range is the newest within it, whatever came after', () => {
    const one = seenOf('float');
    const columns = { id: 'a/x', unit: '', type: 'float', tier: '1h', t: [0, 30 * MINUTE], min: [1, 1], max: [9, 9], mean: [5, 6], last: [8, 9], count: [60, 60] };
    one.line.buckets = fromColumns(columns);
    one.last = { t: 5 * HOUR, v: 99 };
    expect(newestOf(one, span, true)).toEqual({ v: 9 });
    expect(newestOf(one, { from: 2 * HOUR, to: 3 * HOUR }, true)).toBeNull();
    const state = seenOf('bool');
    layReadings(state, { id: 'a/x', t: [1000, 2 * HOUR], v: [true, false] }, { from: 0, to: Number.POSITIVE_INFINITY }, 1000);
    expect(newestOf(state, span, true)).toEqual({ v: true, quality: 'good' });
    expect([newestOf(state, span, false)?.v, newestOf(state, { from: 0, to: 500 }, true)]).toEqual([false, null]);
  });

  test('is the newest by its own time, whatever the hub and the live feed tell first', () => {
    const one = seenOf('float');
    expect(layReadings(one, { id: 'a/x', t: [5000, 6000], v: [1, 2], quality: ['good', 'bad'] }, { from: 0, to: HOUR }, 1000)).toBe(false);
    expect(one.last).toEqual({ t: 6000, v: 2, quality: 'bad' });
    expect(layReadings(one, { id: 'a/x', t: [2000], v: [3] }, { from: 0, to: HOUR }, 1000)).toBe(true);
    expect([one.last?.t, one.line.buckets.last]).toEqual([6000, [1]]);
    expect(newer(one.last, { t: 4000, v: 7 })).toBe(one.last);
    expect(newer(one.last, { t: 6000, v: 7 })?.v).toBe(7);
    expect([newer(null, one.last), newer(one.last, undefined)]).toEqual([one.last, one.last]);
  });
});

describe('the grid', () => {
  test('a panel that is moved makes the others go down, and all go up as far as they can', () => {
    const panels = [panel('a', 0, 0, 6, 4), panel('b', 6, 0, 6, 4), panel('c', 0, 4, 12, 4)];
    const moved = placed(panels, 'b', { x: 0, y: 0, w: 6, h: 4 });
    expect([at(moved, 'a'), at(moved, 'b'), at(moved, 'c')]).toEqual(['0 4 6 4', '0 0 6 4', '0 8 12 4']);
    expect(at(placed(panels, 'c', { x: 0, y: 90, w: 12, h: 4 }), 'c')).toBe('0 4 12 4');
  });

  test('no two lie over each other, whatever is moved where', () => {
    let panels = [panel('a', 0, 0, 6, 4), panel('b', 6, 0, 6, 2), panel('c', 0, 4, 4, 4), panel('d', 4, 4, 8, 3)];
    let seed = 7;
    const next = (below: number): number => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed % below; };
    for (let n = 0; n < 500; n += 1) {
      panels = placed(panels, 'abcd'[next(4)], { x: next(16) - 2, y: next(20) - 2, w: next(14), h: next(8) });
      for (const one of panels) {
        expect(one.x >= 0 && one.x + one.w <= 12 && one.y >= 0 && one.w > 0 && one.h > 0).toBe(true);
        for (const other of panels) if (other !== one) expect(meet(one, other)).toBe(false);
      }
      expect(compact(panels)).toEqual(panels);
    }
  });

  test('a place is within the grid, and a new panel takes the first that is free', () => {
    expect(within({ x: 11, y: -3, w: 40, h: 99 })).toEqual({ x: 0, y: 0, w: 12, h: 24 });
    expect(room([panel('a', 0, 0, 6, 4)], 6, 4)).toEqual({ x: 6, y: 0, w: 6, h: 4 });
    expect(room([panel('a', 0, 0, 8, 4)], 6, 4)).toEqual({ x: 0, y: 4, w: 6, h: 4 });
    expect(freeId([{ id: 'panel-2' }])).toBe('panel-3');
    expect(inOrder([panel('b', 6, 0, 1, 1), panel('c', 0, 2, 1, 1), panel('a', 0, 0, 1, 1)]).map(({ id }) => id).join('')).toBe('abc');
  });
});

test('steps are taken back and done again, and another step forgets what was taken back', () => {
  let steps = step(step(begin(0), 1), 2);
  steps = undo(undo(undo(steps)));
  expect(steps.now).toBe(0);
  expect(redo(steps).now).toBe(1);
  steps = step(redo(steps), 5);
  expect([steps.now, redo(steps).now, undo(steps).now]).toEqual([5, 5, 1]);
  for (let n = 0; n < 2 * STEPS_MAX; n += 1) steps = step(steps, n);
  expect(steps.past.length).toBe(STEPS_MAX);
});

describe('figures', () => {
  const b = buckets([[0, 10, 1], [1000, 20, 3], [2000, 5, 2]]);

  test('are of the buckets of the range, weighed by their readings', () => {
    const all = { from: 0, to: 2000 };
    expect(figureOf(b, 'mean', all)).toBeCloseTo((10 + 60 + 10) / 6);
    expect((['last', 'min', 'max', 'count'] as const).map((one) => figureOf(b, one, all))).toEqual([5.5, 4, 21, 6]);
    expect(figureOf(b, 'count', { from: 500, to: 1500 })).toBe(3);
    expect(figureOf(b, 'mean', { from: 3000, to: 9000 })).toBeNull();
    // A bucket that begins before a fixed range has its readings alone; before one that goes along it may have older ones.
    expect([true, false].map((isFixed) => figureOf(b, 'count', counted({ from: 500, to: 1500 }, isFixed)))).toEqual([figureOf(b, 'count', { from: 0, to: 1500 }), 3]);
  });

  test('mean the worst of their bands, and nothing where they are none', () => {
    const bands = [{ to: 10, level: 'ok' }, { from: 10, level: 'warn' }, { from: 20, to: 30, level: 'bad' }] as const;
    expect([9.99, 10, 20, 30, null, 'x', true].map((value) => levelOf(value, [...bands]))).toEqual(['ok', 'warn', 'bad', 'warn', null, null, null]);
  });

  test('stand in a map by day and hour, or by series and time, and are missing where nothing was read', () => {
    const hours = buckets([[0, 1, 1], [HOUR, 2, 1], [24 * HOUR, 3, 1]]);
    const map = hourDay(hours, 'mean', { from: 0, to: 48 * HOUR }, (ms) => ({ day: String(Math.floor(ms / 24 / HOUR)), hour: (ms / HOUR) % 24 }));
    expect(map.rows).toEqual(['0', '1']);
    expect(map.cells.map(({ row, column, value }) => [row, column, value])).toEqual([[0, 0, 1], [0, 1, 2], [1, 0, 3]]);
    const lines = seriesTime([{ id: 'a', buckets: b }, { id: 'b', buckets: buckets([]) }], 'max', { from: 0, to: 4000 }, 4, String);
    expect(lines.cells.map(({ row, column, value }) => [row, column, value])).toEqual([[0, 0, 11], [0, 1, 21], [0, 2, 6]]);
    expect([lines.min, lines.max]).toEqual([6, 21]);
  });

  test('of hours are those of the clock, also where it is ahead by parts of an hour', () => {
    const day = Date.UTC(2026, 2, 20);
    const span = { from: day + 70 * MINUTE, to: day + 10 * HOUR };
    // A reading each quarter of an hour, as the hub gathers them.
    const whole = hoursOf(span, 'Asia/Kathmandu');
    expect([whole.from - day, whole.to - day, whole.buckets]).toEqual([15 * MINUTE, 10 * HOUR + 15 * MINUTE, 41]);
    expect(hoursOf(span, 'Asia/Kolkata').buckets).toBe(2 * 10 + 1);
    expect(hoursOf(span, 'Europe/Berlin')).toEqual({ from: day + HOUR, to: day + 10 * HOUR, buckets: 10 });
    const { from } = hoursOf(span, 'Asia/Kolkata');
    const halves = buckets(Array.from({ length: 20 }, (_, i) => [from + i * 30 * MINUTE, i, 1]));
    const ahead = 330 * MINUTE;
    const map = hourDay(halves, 'mean', { ...span, from }, (ms) => ({ day: '', hour: Math.floor((ms + ahead) / HOUR) % 24 }));
    expect(map.cells.slice(0, 2).map(({ column, value, from: at }) => [column, value, at - from])).toEqual([[6, 0.5, 0], [7, 2.5, HOUR]]);
    // A clock that is set forward by half an hour within the range.
    expect(hoursOf({ from: Date.UTC(2026, 8, 25), to: Date.UTC(2026, 9, 20) }, 'Australia/Lord_Howe').buckets % 2).toBe(1);
    // No more than are drawn.
    expect(hoursOf({ from: 0, to: day }, 'Etc/UTC').buckets).toBe(90 * 24 + 1);
  });

  test('a small line breaks where readings are missing', () => {
    const path = sparkPath(buckets([[0, 0, 1], [1000, 10, 1], [9000, 0, 1]]), { from: 0, to: 10_000 }, 100, 20, 2000);
    expect(path).toBe('M0.0 20.0L10.0 0.0M90.0 20.0');
  });
});

test('events are whole wherever the stream is cut', () => {
  const text = ': hello\n\nid: 7\nevent: readings\ndata: {"a":\ndata: 1}\n\nid: 8\n\nevent: reset\r\ndata: {}\r\n\r\n';
  for (let size = 1; size < text.length; size += 1) {
    const parser = new EventText();
    const found = [];
    for (let from = 0; from < text.length; from += size) found.push(...parser.push(text.slice(from, from + size)));
    expect(found).toEqual([{ name: 'readings', data: '{"a":\n1}' }, { name: 'reset', data: '{}' }]);
  }
});
