import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Board } from '../src/api/boards';
import { Shown } from '../src/lib/boards/shown.svelte';

/** The page's address is read as soon as its modules are there. */
vi.hoisted(() => {
  vi.stubGlobal('location', { hash: '', protocol: 'http:' });
  vi.stubGlobal('window', { addEventListener: () => undefined });
});

/** As much of an event stream as the feed uses. */
class Stream {
  static readonly CLOSED = 2;
  static opened: Stream[] = [];
  readyState = 0;
  onopen: () => void = () => {};
  onerror: () => void = () => {};
  constructor(readonly url: string) { Stream.opened.push(this); }
  addEventListener(): void {}
  close(): void { this.readyState = Stream.CLOSED; }
}

const NOW = Date.UTC(2026, 10, 23, 12);
const IDS = Array.from({ length: 8 }, (_, i) => `pump-${i}/flow`);
let asked: string[] = [];

beforeEach(() => {
  vi.useFakeTimers({ now: NOW, toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'performance', 'Date'] });
  asked = [];
  Stream.opened = [];
  vi.stubGlobal('EventSource', Stream);
  vi.stubGlobal('document', { hidden: false, addEventListener: () => undefined, removeEventListener: () => undefined });
  const series = IDS.map((id) => ({ id, device: id.slice(0, 6), point: 'flow', unit: '', type: 'float', name: '', last: null, count: 1,
    keep: { readings: 'forever', rollups: ['1m', '1h', '1d'], by_profile: false } }));
  const answers: Record<string, object> = {
    '/api/v1/boards/series': { patterns: [{ pattern: '*/flow', series: IDS, left_off: 0 }], series },
    '/api/v1/query': { series: [], gaps: [], restamped: [], late: [], partial: false },
    '/api/v1/last': { at_ms: NOW, next: null, series: IDS.map((id, i) => ({ id, unit: '', type: 'float', t: NOW - 1000, v: i, age_ms: 1000 })) },
  };
  vi.stubGlobal('fetch', (address: string) => {
    const { pathname } = new URL(address, 'http://hub');
    asked.push(pathname);
    return Promise.resolve(new Response(JSON.stringify(answers[pathname])));
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test('a board asks once for the last values of all of its panels, and is as of now while its feed brings what is new', async () => {
  const panels = Array.from({ length: 20 }, (_, i) => ({ id: `p${i}`, x: 0, y: i, w: 1, h: 1, show: { kind: 'stat' as const, series: ['*/flow'] } }));
  const board: Board = { version: 1, title: 'Many', panels };
  const shown = new Shown();
  shown.show(board, {});
  for (let n = 0; n < 20 && !shown.loaded; n += 1) await vi.advanceTimersByTimeAsync(0);
  expect(shown.loaded).toBe(true);
  expect(asked.filter((path) => path.endsWith('/last')).length).toBe(1);
  expect(shown.of(['*/flow']).all.map(({ last }) => last?.v)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  expect(shown.asOf).toBe(NOW);

  Stream.opened[0].onopen();
  await vi.advanceTimersByTimeAsync(5000);
  expect(shown.asOf).toBe(NOW + 5000);
  // The line is cut: time goes on, and what is shown does not.
  Stream.opened[0].onerror();
  await vi.advanceTimersByTimeAsync(10_000);
  expect([shown.asOf, shown.now]).toEqual([NOW + 5000, NOW + 15_000]);
  shown.close();
});

test('a board asks for nothing more once the link that shows it has ended', async () => {
  const board: Board = { version: 1, title: 'One', panels: [{ id: 'p', x: 0, y: 0, w: 1, h: 1, show: { kind: 'stat', series: ['*/flow'] } }] };
  const shown = new Shown();
  shown.show(board, {});
  for (let n = 0; n < 20 && !shown.loaded; n += 1) await vi.advanceTimersByTimeAsync(0);
  vi.stubGlobal('fetch', (address: string) => {
    asked.push(address);
    return Promise.resolve(new Response(JSON.stringify({ code: 'share-ended', title: 'The link has ended' }), { status: 401 }));
  });
  shown.restart();
  await vi.advanceTimersByTimeAsync(1000);
  expect(shown.ended).toBe(true);
  const all = asked.length;
  await vi.advanceTimersByTimeAsync(600_000);
  expect([asked.length, Stream.opened.every((one) => one.readyState === Stream.CLOSED)]).toEqual([all, true]);
});
