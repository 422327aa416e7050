import { render } from 'svelte/server';
import { describe, expect, test } from 'vitest';
import Parted from '../src/components/Parted.svelte';
import { callings, parted } from '../src/lib/parted';

describe('names beside each other', () => {
  test('may be cut where all are the same, before and behind what tells them apart', () => {
    const [used, free] = parted(['site-1/memory/used_percent', 'site-1/memory/free']);
    expect([used, free].map(({ lead, own, trail }) => [lead, own, trail])).toEqual([['site-1/memory/', 'used_percent', ''], ['site-1/memory/', 'free', '']]);
    expect(parted(['site-1/cpu/total', 'site-2/cpu/total']).map(({ lead, own, trail }) => [lead, own, trail])).toEqual([['', 'site-1/', 'cpu/total'], ['', 'site-2/', 'cpu/total']]);
    expect(parted(['site-1/a', 'site-1/a/a']).map(({ own }) => own)).toEqual(['a', 'a/a']);
  });

  test('that stand alone are told by their end, and none are none', () => {
    expect(parted(['site-1/memory/free'])).toEqual([{ whole: 'site-1/memory/free', lead: 'site-1/memory/', own: 'free', trail: '' }]);
    expect([parted(['flow'])[0].own, parted(['flow', 'flow']).map(({ own }) => own), parted([]), parted([''])[0].own]).toEqual(['flow', ['flow', 'flow'], [], '']);
  });

  test('are whole together, and no two are told the same, whatever they are', () => {
    let seed = 7;
    const any = (n: number): number => { seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31; return Math.floor((seed / 2 ** 31) * n); };
    for (let round = 0; round < 2000; round += 1) {
      const names = [...new Set(Array.from({ length: 1 + any(6) }, () => Array.from({ length: 1 + any(5) }, () => 'ab/'[any(3)]).join('')))];
      const all = parted(names);
      expect(all.map(({ lead, own, trail }) => lead + own + trail)).toEqual(names);
      expect(new Set(all.map(({ own }) => own)).size).toBe(names.length);
    }
  });

  test('are read out whole, and are so under the mouse', () => {
    const { body } = render(Parted, { props: { name: parted(['site-1/cpu/total', 'site-2/cpu/total'])[0] } });
    expect(body).toContain('title="site-1/cpu/total"');
    expect(body.replaceAll(/<!--.*?-->|<[^>]*>/g, '')).toBe('site-1/cpu/total');
  });

  test('of series are those for people, unless two are called the same', () => {
    expect(callings([{ id: 'a/t', name: 'Inlet' }, { id: 'b/t', name: 't' }, { id: 'c/t', name: 't' }])).toEqual(['Inlet', 'b/t', 'c/t']);
  });
});

test('a name breaks between its words where it is longer than a line', () => {
  const { body } = render(Parted, { props: { name: parted(['p/bearing/used_percent', 'p/flow'])[0] } });
  expect(body.replaceAll(/<!--.*?-->/g, '')).toMatch(/bearing\/<wbr\/?>used_<wbr\/?>percent/);
});
