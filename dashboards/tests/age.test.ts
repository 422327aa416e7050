import { render } from 'svelte/server';
import { expect, test } from 'vitest';
import LastValue from '../src/components/LastValue.svelte';

const shown = (age: number, after: number | null): string => {
  const props = { reading: { t: 1_000_000_000_000 - age, v: 21.5 }, unit: 'Cel', type: 'float', now: 1_000_000_000_000, after };
  return render(LastValue, { props }).body.replaceAll(/<!--.*?-->/g, '').replaceAll(/<[^>]*data-testid="([a-z-]+)"[^>]*>/g, '[$1]').replaceAll(/<[^>]*>/g, '').replaceAll(/\s+/g, ' ').trim();
};

test('a value stands with its age, and with a mark when its own pace allows no such age', () => {
  expect(shown(5000, 60_000)).toBe('[last-value]21.5°C[age]5 s ago');
  expect(shown(86_400_000, 60_000)).toBe('[last-value]21.5°C[stale]stale: 1 d ago');
});

test('a state that comes when it changes is old and not stale', () => {
  expect(shown(86_400_000, null)).toBe('[last-value]21.5°C[age]1 d ago');
});

test('no reading has no age', () => {
  const { body } = render(LastValue, { props: { reading: null, unit: '', type: 'float', now: 0, after: 0 } });
  expect(body).not.toMatch(/data-testid="(age|stale)"/);
});
