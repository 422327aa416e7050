import type uPlot from 'uplot';
import { expect, test, vi } from 'vitest';
import { Keyed } from '../src/lib/keyed.svelte';

test('keys move the cursor of a chart as a mouse does, and tell the other charts of the page', () => {
  const setCursor = vi.fn();
  const plot = { setCursor, valToPos: (t: number) => t * 2, over: { clientHeight: 100 } } as unknown as uPlot;
  const keyed = new Keyed(() => plot, () => [10, 20, 30]);
  const press = (key: string): void => keyed.key({ key, preventDefault: () => undefined } as KeyboardEvent);
  press('ArrowLeft');
  press('ArrowLeft');
  keyed.again();
  keyed.leave();
  keyed.leave();
  const at = (left: number): unknown[] => [{ left, top: 50 }, true, true];
  expect(setCursor.mock.calls).toEqual([at(60), at(40), at(40), [{ left: -10, top: -10 }, true, true]]);
});
