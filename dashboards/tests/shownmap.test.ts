import { expect, test, vi } from 'vitest';
import type { MapAnswer } from '../src/api/map';
import { ShownMap } from '../src/lib/map/shown.svelte';

vi.mock('../src/api/map', () => ({ map: () => Promise.reject(new Error('400')), mapDevices: () => Promise.reject(new Error('400')) }));

test('a map of other devices does not show those from before, also when the hub refuses', async () => {
  const shown = new ShownMap({ devices: [] }, { x: 0.5, y: 0.5, zoom: 3 });
  shown.size = { width: 900, height: 500 };
  const answer: MapAnswer = { as_of_ms: 1, zoom: 3, clusters: [], bounds: null, placed: 2, unplaced: 0 };
  shown.answer = answer;
  shown.total = 2;
  shown.show({ devices: [] });
  expect(shown.answer).toBe(answer);
  shown.show({ devices: ['@site=north'] });
  expect([shown.answer, shown.devices, shown.total]).toEqual([null, [], 0]);
  await vi.waitFor(() => expect(shown.error).toBe('400'));
  shown.close();
});
