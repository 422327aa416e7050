import { describe, expect, it } from 'vitest';
import { doubled, formOf, patchOf } from '../src/lib/marks';

const was = { title: 'Inlet', site: 'north', groups: ['b', 'a'], tags: { floor: '2', old: '' } };

describe('what operators say of a device', () => {
  it('changes nothing where nothing was changed', () => {
    expect(patchOf(was, formOf(was))).toEqual({});
    expect(patchOf(was, { ...formOf(was), groups: ' a,b , a', title: ' Inlet ' })).toEqual({});
  });

  it('changes only what is another one, and takes away what is empty or gone', () => {
    const form = { title: '', site: 'south ', groups: '', tags: [{ key: 'floor', value: '3' }, { key: ' new ', value: ' x ' }, { key: '', value: 'lost' }] };
    expect(patchOf(was, form)).toEqual({ title: null, site: 'south', groups: [], tags: { floor: '3', new: 'x', old: null } });
    expect(patchOf(was, { ...formOf(was), tags: [...formOf(was).tags, { key: 'toString', value: 'y' }] })).toEqual({ tags: { toString: 'y' } });
  });

  it('keeps a key once', () => {
    expect(doubled([{ key: 'a', value: '1' }, { key: 'b', value: '' }, { key: ' a', value: '2' }])).toBe('a');
    expect(doubled([{ key: '', value: '1' }, { key: '', value: '2' }])).toBeNull();
  });
});
