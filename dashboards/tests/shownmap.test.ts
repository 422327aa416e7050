import { expect, test, vi } from 'vitest';
import type { MapAnswer } from '../src/api/map';
import { ShownMap } from '../src/lib/map/shown.svelte';

const hub = vi.hoisted(() => ({ answers: [] as object[] }));
vi.mock('../src/api/map', () => {
  const refused = (): Promise<never> => Promise.reject(new Error('400'));
  return {
    map: () => { const answer = hub.answers.shift(); return answer === undefined ? refused() : Promise.resolve(answer); },
    mapDevices: () => Promise.resolve({ devices: [], total: 0, next: null }),
  };
});

test('a map of other devices does not show those from before, also when the hub refuses', async () => {
  const shown = new ShownMap({ devices: [] }, { x: 0.5, y: 0.5, zoom: 3 });
  shown.size = { width: 900, height: 500 };
  const answer: MapAnswer = { as_of_ms: 1, zoom: 3, clusters: [], bounds: null, placed: 2, unplaced: 0 };
  shown.answer = answer;
  shown.total = 2;
  shown.show({ devices: [] }, false);
  expect(shown.answer).toBe(answer);
  shown.show({ devices: ['@site=north'] }, false);
  expect([shown.answer, shown.devices, shown.total]).toEqual([null, [], 0]);
  await vi.waitFor(() => expect(shown.error).toBe('400'));
  shown.close();
});

test('other devices are shown all, unless a view of them is named', async () => {
  const bounds = { west: 10, south: 47, east: 12, north: 49 };
  const answer: MapAnswer = { as_of_ms: 1, zoom: 3, clusters: [], bounds, placed: 2, unplaced: 0 };
  const shown = new ShownMap({ devices: [] }, { x: 0.1, y: 0.5, zoom: 4 });
  shown.size = { width: 900, height: 500 };
  hub.answers = [answer, answer];
  shown.show({ site: 'south' }, false);
  await vi.waitFor(() => expect(shown.answer).toEqual(answer));
  expect(shown.view).toEqual({ x: 0.1, y: 0.5, zoom: 4 });
  shown.show({ site: 'north' }, true);
  await vi.waitFor(() => expect(shown.view.x).toBeCloseTo((11 + 180) / 360));
  expect(shown.view.zoom).toBeGreaterThan(5);
  shown.close();
});

test('a view that is named holds also where other devices were still to be shown all', async () => {
  const bounds = { west: 10, south: 47, east: 12, north: 49 };
  const answer: MapAnswer = { as_of_ms: 1, zoom: 3, clusters: [], bounds, placed: 2, unplaced: 0 };
  const named = { x: 0.1, y: 0.5, zoom: 4 };
  const shown = new ShownMap({ devices: [] }, named);
  shown.size = { width: 900, height: 500 };
  hub.answers = [answer, answer];
  shown.show({ site: 'south' }, true);
  // Back before the hub has answered.
  shown.show({ devices: [] }, false);
  await vi.waitFor(() => expect(shown.answer).toEqual(answer));
  expect(shown.view).toEqual(named);
  shown.close();
});
