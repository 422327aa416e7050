import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Again, AGAIN_MS } from '../src/lib/again.svelte';
import { Doing } from '../src/lib/doing.svelte';

const page = { hidden: false };
const NOW = Date.UTC(2026, 10, 23, 12);
beforeEach(() => {
  page.hidden = false;
  vi.stubGlobal('document', page);
  vi.useFakeTimers({ now: NOW, toFake: ['setInterval', 'clearInterval', 'Date'] });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});
const pass = (times: number): Promise<unknown> => vi.advanceTimersByTimeAsync(times * AGAIN_MS);

describe('what is looked for again', () => {
  test('is as of its last look, also while the hub cannot be reached, and recovers by itself', async () => {
    let reached = true;
    const again = new Again(() => (reached ? Promise.resolve() : Promise.reject(new Error('the hub cannot be reached'))));
    await again.turn();
    expect([again.asOf, again.error]).toEqual([NOW, '']);
    reached = false;
    await pass(3);
    expect([again.asOf, again.now, again.error]).toEqual([NOW, NOW + 3 * AGAIN_MS, 'the hub cannot be reached']);
    reached = true;
    await pass(1);
    expect([again.asOf, again.error]).toEqual([NOW + 4 * AGAIN_MS, '']);
    again.close();
  });

  test('is not looked for while the page is hidden, nor after it was left, nor twice at once', async () => {
    let [looks, answer] = [0, (): void => undefined];
    const again = new Again(() => { looks += 1; return new Promise((done) => { answer = done; }); });
    await pass(3);
    expect(looks).toBe(1);
    answer();
    await pass(0);
    page.hidden = true;
    await pass(3);
    expect(looks).toBe(1);
    page.hidden = false;
    await pass(1);
    again.close();
    answer();
    await pass(3);
    expect(looks).toBe(2);
  });

  test('is old while a look hangs, though nobody has said that the hub is away', async () => {
    let hangs = false;
    const again = new Again(() => (hangs ? new Promise(() => undefined) : Promise.resolve()));
    await again.turn();
    hangs = true;
    await pass(2);
    expect(again.isOld).toBe(false);
    await pass(1);
    expect([again.isOld, again.error, again.asOf]).toEqual([true, '', NOW]);
    again.close();
  });

  test('is looked for behind what was done, and what that failed with stays when a look does not fail', async () => {
    let [there, known] = [0, -1];
    const doing = new Doing(() => { known = there; return Promise.resolve(); });
    await doing.do(() => { there = 7; return Promise.resolve('done'); });
    expect([known, doing.told, doing.error]).toEqual([7, 'done', '']);
    await doing.do(() => Promise.reject(new Error('refused')));
    await pass(2);
    expect([doing.error, doing.again.error, doing.busy]).toEqual(['refused', '', false]);
    doing.close();
  });
});
