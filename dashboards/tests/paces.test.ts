import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Paces, type Paced } from '../src/lib/paces';
import { emptyBuckets } from '../src/lib/series';

const MINUTE = 60_000;
const NOW = Date.UTC(2026, 10, 23, 12);
const SPAN = { from: NOW - 5 * MINUTE, to: NOW };
let asked: string[][] = [];
let refuses = false;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
  [asked, refuses] = [[], false];
  vi.stubGlobal('fetch', (address: string) => {
    const ids = (new URL(address, 'http://hub').searchParams.get('series') ?? '').split(',');
    asked.push(ids);
    // A meter is read each quarter of an hour; what has no pace said one thing today.
    const t = Array.from({ length: 90 }, (_, i) => NOW - (90 - i) * 15 * MINUTE);
    const columns = (id: string, times: number[]): object => ({ id, unit: '', type: 'float', tier: '1m', t: times, min: times, max: times, mean: times, last: times, count: times.map(() => 1) });
    const series = ids.map((id) => columns(id, id === 'meter/once' ? t.slice(-1) : t));
    return Promise.resolve(new Response(JSON.stringify({ series, gaps: [], restamped: [], late: [], partial: false }), { status: refuses ? 503 : 200 }));
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const slow = (id: string, age = 10 * MINUTE): Paced => ({ id, buckets: emptyBuckets(), last: { t: NOW - age, v: 1 } });
const fast: Paced = { ...slow('meter/fast'), buckets: { t: [1, 2, 3], min: [1, 1, 1], max: [1, 1, 1], mean: [1, 1, 1], last: [1, 1, 1], count: [1, 1, 1] } };
const signal = new AbortController().signal;

describe('the pace of a series', () => {
  test('is looked for in the day before where the range does not tell it, once for all', async () => {
    const paces = new Paces();
    expect(await paces.learn([slow('meter/import'), slow('meter/once'), fast, slow('meter/dead', 86_400_001), { ...slow('meter/never'), last: null }], SPAN, NOW, signal)).toBe(true);
    expect(asked).toEqual([['meter/import', 'meter/once']]);
    expect(['meter/import', 'meter/once', 'meter/fast'].map((id) => paces.of(id))).toEqual([15 * MINUTE, 0, 0]);
  });

  test('is kept for ten minutes, also that there is none', async () => {
    const paces = new Paces();
    const all = [slow('meter/import'), slow('meter/once')];
    await paces.learn(all, SPAN, NOW, signal);
    vi.advanceTimersByTime(9 * MINUTE);
    expect(await paces.learn(all, SPAN, NOW, signal)).toBe(false);
    expect(asked.length).toBe(1);
    vi.advanceTimersByTime(MINUTE);
    await paces.learn(all, SPAN, NOW, signal);
    expect(asked.length).toBe(2);
  });

  test('is not looked for in ranges as long, and again when the hub could not be asked', async () => {
    const paces = new Paces();
    await paces.learn([slow('meter/import')], { from: NOW - 7 * 86_400_000, to: NOW }, NOW, signal);
    expect(asked.length).toBe(0);
    refuses = true;
    expect(await paces.learn([slow('meter/import')], SPAN, NOW, signal)).toBe(false);
    refuses = false;
    expect(await paces.learn([slow('meter/import')], SPAN, NOW, signal)).toBe(true);
  });
});
