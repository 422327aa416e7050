import { expect, test, vi } from 'vitest';

vi.hoisted(() => {
  // As much of a browser as uPlot looks for when it is loaded.
  vi.stubGlobal('matchMedia', () => ({ addEventListener: () => undefined, removeEventListener: () => undefined }));
});
const { valueRange } = await import('../src/lib/axis');

test('a value that stays has a little room around it', () => {
  expect(valueRange(20, 20, 'Cel')).toEqual([18, 22]);
  expect(valueRange(0, 0, 'Cel')).toEqual([-1, 1]);
  expect(valueRange(-5, -5, 'Cel')).toEqual([-5.5, -4.5]);
});

test('a share has none where no share can be, unless one is there', () => {
  expect(valueRange(100, 100, '%')).toEqual([90, 100]);
  expect(valueRange(0, 0, '%')).toEqual([0, 1]);
  expect(valueRange(2, 99, '%')).toEqual([0, 100]);
  expect(valueRange(10, 140, '%')[1]).toBeGreaterThan(140);
  expect(valueRange(-20, 50, '%')[0]).toBeLessThan(-20);
});

test('values that move have all of them in it, and none have some', () => {
  const [low, high] = valueRange(10, 14, 'V');
  expect(low < 10 && high > 14).toBe(true);
  expect(valueRange(null, null, 'V')).toEqual([0, 1]);
});
