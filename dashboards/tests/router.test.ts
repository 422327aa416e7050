import { expect, test, vi } from 'vitest';

const seen = vi.hoisted(() => {
  const on = new Map<string, (event: unknown) => void>();
  const location = { hash: '#/boards/b1?edit=1' };
  class Link { constructor(readonly hash: string) {} closest(): Link { return this; } }
  const pushed: string[] = [];
  vi.stubGlobal('location', location);
  vi.stubGlobal('window', { addEventListener: (name: string, handle: (event: unknown) => void) => on.set(name, handle) });
  vi.stubGlobal('history', { pushState: (_: unknown, __: string, hash: string) => { pushed.push(hash); location.hash = hash; } });
  vi.stubGlobal('Element', Link);
  return { on, location, Link, pushed };
});
const { router } = await import('../src/lib/router.svelte');

/** A click, and what the browser makes of it where nobody prevents it. */
function click(hash: string, more: object = {}): boolean {
  const preventDefault = vi.fn();
  seen.on.get('click')?.({ button: 0, target: new seen.Link(hash), preventDefault, ...more });
  const goes = preventDefault.mock.calls.length === 0;
  if (goes && !('ctrlKey' in more)) go(hash);
  return goes;
}
function go(hash: string): void {
  seen.location.hash = hash;
  seen.on.get('hashchange')?.({});
}

test('a page that would lose something is asked before a link is followed, once, and before the way back', () => {
  let may = false;
  const guard = vi.fn(() => may);
  const end = router.guard(guard);
  expect(click('#/map')).toBe(false);
  expect([router.route.page, seen.location.hash, seen.pushed]).toEqual(['board', '#/boards/b1?edit=1', []]);
  // In another tab: this page stays.
  expect(click('#/map', { ctrlKey: true })).toBe(true);
  expect(guard).toHaveBeenCalledTimes(1);
  go('#/boards');
  expect([router.route.page, seen.location.hash, seen.pushed]).toEqual(['board', '#/boards/b1?edit=1', ['#/boards/b1?edit=1']]);
  may = true;
  guard.mockClear();
  expect(click('#/map')).toBe(true);
  expect(router.route.page).toBe('map');
  expect(guard).toHaveBeenCalledTimes(1);
  end();
  may = false;
  go('#/boards');
  expect(router.route.page).toBe('boards');
});

test('what else the address says of the same page is no leave', () => {
  go('#/boards/b1?edit=1');
  const end = router.guard(() => false);
  go('#/boards/b1?range=6h');
  expect([router.route.page, router.params.get('range')]).toEqual(['board', '6h']);
  end();
});

test('a page that is gone does not take the guard of the next one with it', () => {
  go('#/boards/b1');
  const first = router.guard(() => true);
  const second = router.guard(() => false);
  first();
  go('#/map');
  expect(router.route.page).toBe('board');
  second();
});
