import { afterEach, expect, test, vi } from 'vitest';
import { Board } from '../src/lib/board.svelte';
import { status } from '../src/lib/status.svelte';

vi.hoisted(() => {
  vi.stubGlobal('location', { hash: '', protocol: 'http:' });
  vi.stubGlobal('window', { addEventListener: () => undefined });
});
class Stream {
  static readonly CLOSED = 2;
  readyState = 0;
  addEventListener(): void {}
  close(): void { this.readyState = Stream.CLOSED; }
}
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test('a device that does not exist is asked for once, and said to be none', async () => {
  vi.useFakeTimers({ now: Date.UTC(2026, 10, 23, 12) });
  vi.stubGlobal('EventSource', Stream);
  vi.stubGlobal('document', { hidden: false, addEventListener: () => undefined, removeEventListener: () => undefined });
  const asked: string[] = [];
  vi.stubGlobal('fetch', (address: string) => {
    asked.push(address);
    const isList = address.includes('/series');
    return Promise.resolve(new Response(JSON.stringify(isList ? { series: [], next: null } : { code: 'no-such-device', detail: 'there is no device "nothing"' }), { status: isList ? 200 : 404 }));
  });
  const board = new Board('nothing');
  await vi.advanceTimersByTimeAsync(60_000);
  expect(asked.filter((path) => path.endsWith('/devices/nothing'))).toHaveLength(1);
  expect([board.isUnknown, board.error, board.device, status.live]).toEqual([true, 'there is no device "nothing"', null, 'idle']);
  board.close();
});
