import { afterEach, expect, test, vi } from 'vitest';
import { askEarly, beginsPlain, earlyPaths, FLEET_FIRST, forgetEarly, SESSION, takeEarly } from '../src/lib/early';

afterEach(() => {
  forgetEarly();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

test('a page begins with who is signed in, the list of the fleet with its first rows, and a link with neither', () => {
  expect(earlyPaths('')).toEqual([SESSION, FLEET_FIRST]);
  expect(earlyPaths('#/?tz=utc&q=')).toEqual([SESSION, FLEET_FIRST]);
  expect(earlyPaths('#/device/pump-7')).toEqual([SESSION]);
  expect(earlyPaths('#/shared/abc')).toEqual([]);
  for (const other of ['q=pump', 'state=offline', 'sort=-last', 'site=north']) {
    expect([earlyPaths(`#/?${other}`), beginsPlain(new URLSearchParams(other))]).toEqual([[SESSION], false]);
  }
});

test('an early answer is taken once, while it is of now, and as who asked for it', async () => {
  vi.useFakeTimers();
  const addresses: string[] = [];
  vi.stubGlobal('fetch', (address: string) => {
    addresses.push(address);
    return Promise.resolve(new Response('{}'));
  });
  askEarly('#/');
  expect(addresses).toEqual([`/api/v1${SESSION}`, `/api/v1${FLEET_FIRST}`]);
  expect(await takeEarly(SESSION)).toBeInstanceOf(Response);
  expect(takeEarly(SESSION)).toBeNull();
  expect(takeEarly('/fleet')).toBeNull();
  vi.advanceTimersByTime(6000);
  expect(takeEarly(FLEET_FIRST)).toBeNull();
  askEarly('#/');
  forgetEarly();
  expect(takeEarly(FLEET_FIRST)).toBeNull();
});

test('one that fails is told to who takes it, and to nobody else', async () => {
  vi.stubGlobal('fetch', () => Promise.reject(new Error('down')));
  askEarly('#/');
  await expect(takeEarly(SESSION)).rejects.toThrow('down');
});
