import { describe, expect, test } from 'vitest';
import { EventText } from '../src/api/events';
import { figureOf, hourDay, levelOf, seriesTime, sparkPath } from '../src/lib/boards/figures';
import { compact, freeId, inOrder, meet, placed, room, within, type Placed } from '../src/lib/boards/grid';
import { begin, redo, step, STEPS_MAX, undo } from '../src/lib/boards/undo';
import type { Buckets } from '../src/lib/series';

const HOUR = 3_600_000;
const panel = (id: string, x: number, y: number, w: number, h: number): Placed => ({ id, x, y, w, h });
const at = (panels: Placed[], id: string): string => {
  const { x, y, w, h } = panels.find((one) => one.id === id) ?? panel('', -1, -1, 0, 0);
  return `${x} ${y} ${w} ${h}`;
};
const buckets = (rows: [number, number, number][]): Buckets => ({
  t: rows.map(([t]) => t), min: rows.map(([, mean]) => mean - 1), max: rows.map(([, mean]) => mean + 1), mean: rows.map(([, mean]) => mean), count: rows.map(([, , count]) => count),
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
    expect((['last', 'min', 'max', 'count'] as const).map((one) => figureOf(b, one, all))).toEqual([5, 4, 21, 6]);
    expect(figureOf(b, 'count', { from: 500, to: 1500 })).toBe(3);
    expect(figureOf(b, 'mean', { from: 3000, to: 9000 })).toBeNull();
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
