import { describe, expect, it } from 'vitest';
import { behind, leaves, patchOf, patchText, rows, sharedBy, shown, shownExactly, typed } from '../src/lib/twin';

describe('what a device shares', () => {
  it('is of its site and its groups, as far as a document can be called so', () => {
    expect(sharedBy('hall-2', ['pumps', 'Werk 1', 'a.b_c'])).toEqual(['site/hall-2', 'group/pumps', 'group/a.b_c']);
    expect(sharedBy('', undefined)).toEqual([]);
    expect(sharedBy(null, ['x'.repeat(65), 'é', 'a/b'])).toEqual([]);
  });
});

describe('the points of what is shared', () => {
  it('are not so by device, with how far it is and why', () => {
    const of = { key: 'points/speed', desired: 5 };
    expect(behind([
      { ...of, reported: 4, device: 'pump-1', state: 'refused', reason: 'too fast' },
      { ...of, reported: null },
      { key: 'night', desired: true, reported: null },
    ])).toEqual([
      { device: 'pump-1', key: 'speed', desired: '5', reported: '4', state: 'refused: too fast' },
      { device: null, key: 'speed', desired: '5', reported: null, state: '' },
    ]);
  });
});

describe('a twin as rows', () => {
  it('has a row for each leaf, with forms of values as people read them', () => {
    const section = { motor: { speed: 3, 'a/b': 'x' }, list: [1, 2], none: {}, hours: { $counter: 7 }, crew: { $set: ['a', 1] } };
    const found = [...leaves(section)].map(([key, value]) => [key, shown(value)]);
    expect(found).toEqual([
      ['motor/speed', '3'], ['motor/a~1b', 'x'], ['list', '[1,2]'], ['none', '{}'], ['hours', '7'], ['crew', '{"a", 1}'],
    ]);
  });

  it('shows first what is wanted and not so', () => {
    const found = rows({ a: 1, b: 2 }, { a: 1, c: 3 }, [{ key: 'b', since_ms: 5 }]);
    expect(found).toEqual([
      { key: 'b', desired: '2', reported: null, since: 5, differs: true },
      { key: 'a', desired: '1', reported: '1', since: null, differs: false },
      { key: 'c', desired: null, reported: '3', since: null, differs: false },
    ]);
  });

  it('leaves out what only the hub reads', () => {
    const reported = { config_schema: { spool: '{"type":"object"}' }, config: { applied: 3 } };
    expect(rows({}, reported, []).map((row) => row.key)).toEqual(['config/applied']);
  });

  it('reads back what is typed as a patch of one leaf', () => {
    expect(patchOf('motor/a~1b', typed('-3.5'))).toEqual({ motor: { 'a/b': -3.5 } });
    expect(typed('on')).toBe('on');
    expect(patchOf('mode', null)).toEqual({ mode: null });
  });

  it('keeps a value of a conflict with all its digits and its kind', () => {
    for (const [json, read] of [['5.0', '5.0'], ['9007199254740993', '9007199254740993'], ['{"$counter":-9007199254740993}', '-9007199254740993'], ['{}', '{}'], ['"a"', 'a']] as const) {
      expect(patchText('motor/a~1b', json)).toBe(`{"motor":{"a/b":${json}}}`);
      expect(shownExactly({ value: JSON.parse(json) as unknown, json })).toBe(read);
    }
  });
});
