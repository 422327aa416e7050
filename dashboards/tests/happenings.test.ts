import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Happenings, type Mark } from '../src/lib/boards/happenings';

const DEVICES = Array.from({ length: 8 }, (_, i) => `pump-${i}`);
const HOUR = { from: 3_600_000, to: 7_200_000 };
let asked: URL[] = [];

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
  asked = [];
  vi.stubGlobal('fetch', (address: string) => {
    const url = new URL(address, 'http://hub');
    asked.push(url);
    const device = url.pathname.split('/')[4];
    const body = url.pathname.endsWith('/events')
      ? { device, agent: device, events: [{ at_ms: 5_000_000, change: 'online', reason: 'heard', changes: 1 }, { at_ms: 5_100_000, change: 'offline', reason: 'silent', changes: 1 }] }
      : { steps: [{ time_ms: 4_000_000, taken_ms: null, author: 'anna', side: 'hub', section: 'desired', key: 'speed', value: 3 }, { time_ms: 4_000_001, taken_ms: null, author: '', side: 'agent', section: 'reported', key: 'speed', value: 3 }] };
    return Promise.resolve(new Response(JSON.stringify(body), { status: device === 'pump-7' ? 503 : 200 }));
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const panels = (page: Happenings, marks: Mark[], span = HOUR, open = true): Promise<unknown> => Promise.all(Array.from({ length: 20 }, () => page.of(DEVICES, marks, span, open)));

describe('what happened to devices', () => {
  test('is asked for once by device, and not once by panel', async () => {
    const page = new Happenings();
    await panels(page, ['restarts']);
    expect(asked.length).toBe(8);
    await panels(page, ['restarts', 'configuration']);
    expect(asked.length).toBe(16);
  });

  test('is asked for again after ten seconds, however often the range goes along', async () => {
    const page = new Happenings();
    for (let s = 0; s < 10; s += 1) {
      await panels(page, ['restarts', 'configuration'], { from: HOUR.from + s, to: HOUR.to + s });
      vi.advanceTimersByTime(999);
    }
    expect(asked.length).toBe(16);
    vi.advanceTimersByTime(1000);
    await panels(page, ['restarts', 'configuration']);
    expect(asked.length).toBe(32);
  });

  test('is of the range that is shown, and of another one at once', async () => {
    const page = new Happenings();
    await page.of(['pump-1'], ['configuration'], HOUR, true);
    await page.of(['pump-1'], ['configuration'], { from: HOUR.from, to: HOUR.from + 1000 }, false);
    await page.of(['pump-1'], ['configuration'], { from: 0, to: HOUR.to }, false);
    const said = asked.map(({ searchParams: p }) => [p.get('key'), p.get('order'), p.get('from'), p.get('to')]);
    // The second lies within the first, which had no end.
    expect(said).toEqual([['desired', 'newest', '3600000', null], ['desired', 'newest', null, '7200001']]);
  });

  test('is told in order, and not of a device that cannot be asked', async () => {
    const page = new Happenings();
    const found = await page.of(['pump-1', 'pump-7'], ['restarts', 'configuration'], HOUR, true);
    expect(found).toEqual([{ t: 4_000_000, text: 'pump-1: speed was set' }, { t: 5_000_000, text: 'pump-1 came back' }]);
  });
});
