import { beforeEach, expect, test, vi } from 'vitest';

/** A browser's address, as far as the router knows it. */
const browser = vi.hoisted(() => {
  const all: { hash: string; handle: (event: { oldURL: string }) => void } = { hash: '#/boards/mine', handle: () => undefined };
  vi.stubGlobal('location', all);
  vi.stubGlobal('window', { addEventListener: (_name: string, handle: typeof all.handle) => { all.handle = handle; } });
  vi.stubGlobal('history', { pushState: (_state: null, _title: string, url: string) => { all.hash = url.slice(url.indexOf('#')); } });
  return all;
});
const { router } = await import('../src/lib/router.svelte');

function go(hash: string): void {
  const oldURL = `http://hub/${browser.hash}`;
  browser.hash = hash;
  browser.handle({ oldURL });
}
beforeEach(() => {
  router.mayLeave = null;
  go('#/boards/mine');
});

test('a page that may not be left stays, and its address with it', () => {
  const asked = vi.fn(() => false);
  router.mayLeave = asked;
  go('#/map');
  expect([router.route, browser.hash, asked.mock.calls.length]).toEqual([{ page: 'board', id: 'mine', device: false }, '#/boards/mine', 1]);
  asked.mockReturnValue(true);
  go('#/map');
  expect([router.route.page, browser.hash]).toEqual(['map', '#/map']);
});

test('what else the address says of the same page is no leave', () => {
  router.mayLeave = () => false;
  go('#/boards/mine?range=6h');
  expect([router.route.page, router.params.get('range')]).toEqual(['board', '6h']);
});
