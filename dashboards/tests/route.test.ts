import { describe, expect, it } from 'vitest';
import {
  boardHash, deviceBoardHash, deviceHash, exploreHash, OPERATE_TABS, operateHash, paramsOf, parseHash, parseSeries, sharedHash, withParams,
} from '../src/lib/route';

describe('hash routes', () => {
  it('finds its way back from a device', () => {
    for (const id of ['pump-7', 'Line_3.a', 'ä b']) {
      expect(parseHash(deviceHash(id))).toEqual({ page: 'device', id });
    }
  });

  it('knows the map, with what it shows behind a question mark', () => {
    expect(parseHash('#/map?at=48.1,11.5&z=6')).toEqual({ page: 'map' });
  });

  it('takes whatever it does not know for the fleet', () => {
    for (const hash of ['', '#', '#/', '#/device/', '#/device/a/b', '#/device/%', '#/nowhere']) {
      expect(parseHash(hash)).toEqual({ page: 'fleet' });
    }
  });

  it('finds its way back from the operator’s pages', () => {
    for (const tab of OPERATE_TABS) expect(parseHash(operateHash(tab))).toEqual({ page: 'operate', tab });
    for (const hash of ['#/operate', '#/operate/', '#/operate/nowhere']) expect(parseHash(hash)).toEqual({ page: 'operate', tab: null });
  });

  it('keeps what a page shows behind a question mark', () => {
    const hash = withParams('#/device/pump-7', { range: '6h', tz: 'utc' });
    expect(hash).toBe('#/device/pump-7?range=6h&tz=utc');
    expect(parseHash(hash)).toEqual({ page: 'device', id: 'pump-7' });
    expect(Object.fromEntries(paramsOf(hash))).toEqual({ range: '6h', tz: 'utc' });
    expect(withParams(hash, { range: null, tz: null })).toBe('#/device/pump-7');
  });

  it('finds its way back from series whose names have signs of the address in them', () => {
    const ids = ['pump-7/flow', 'a b/c,d?e=1&f#g%2C'];
    const hash = exploreHash(ids);
    expect(parseHash(hash)).toEqual({ page: 'explore' });
    expect(parseSeries(paramsOf(hash).get('s') ?? '')).toEqual(ids);
  });

  it('finds its way back from boards and links to them', () => {
    expect(parseHash('#/boards')).toEqual({ page: 'boards' });
    expect(parseHash(`${boardHash('a b')}?edit=1`)).toEqual({ page: 'board', id: 'a b', device: false });
    expect(parseHash(deviceBoardHash('pump/7'))).toEqual({ page: 'board', id: 'pump/7', device: true });
    expect(parseHash(sharedHash('tlb_a_b-c'))).toEqual({ page: 'shared', token: 'tlb_a_b-c' });
    expect(parseHash('#/shared/')).toEqual({ page: 'fleet' });
  });

  it('takes each series once, and nothing that is none', () => {
    expect(parseSeries('a/b,,a/b,c,%,d/e')).toEqual(['a/b', 'd/e']);
  });
});
