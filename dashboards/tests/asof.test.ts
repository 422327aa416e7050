import { render } from 'svelte/server';
import { afterEach, expect, test } from 'vitest';
import AsOf from '../src/components/AsOf.svelte';
import { status } from '../src/lib/status.svelte';

const AT = Date.UTC(2026, 10, 23, 12);
const shown = (age: number): string => render(AsOf, { props: { at: AT, now: AT + age } }).body.replaceAll(/<[^>]*>/g, ' ').replaceAll(/\s+/g, ' ').trim();
afterEach(() => { status.live = 'connecting'; });

test('what is shown says as of when it is, and that it is stale while nothing newer comes', () => {
  status.live = 'live';
  expect(shown(2000)).toMatch(/^as of 2026-11-23 \d\d:00:00$/);
  expect(shown(60_000)).toMatch(/stale: 1 min ago$/);
  status.live = 'reconnecting';
  expect(shown(2000)).toMatch(/stale: 2 s ago, reconnecting$/);
});

test('what was made to stand still is not stale', () => {
  status.live = 'paused';
  expect(shown(600_000)).not.toContain('stale');
});
