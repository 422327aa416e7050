import { describe, expect, it } from 'vitest';
import { crosses, fits, optionsOf, parseSort, rowsOf, runs, sorted, sortText, strip, windowOf, type Filters } from '../src/lib/fleettable';
import type { FleetTable } from '../src/api/fleet';
import { spark } from '../src/lib/spark';

function table(ids: string[], more: Partial<FleetTable> = {}): FleetTable {
  const all = <T>(value: T): T[] => ids.map(() => value);
  return {
    as_of_ms: 0, id: ids, title: all(''), agent: ids, site: all(''), groups: all([]), tags: all({}), profile: all(''), model: all(''), firmware: all(''),
    software: all(''), state: all('online'), revoked: all(false), last_reading_ms: all(null), rate: all(0), backlog: all(0), produced: all(0), stored: all(0),
    dropped: all(0), refused: all(0), gaps: all(0), balanced: all(true), hours: all('.'.repeat(24)), minutes: all('.'.repeat(60)), ...more,
  };
}
const NONE: Filters = { state: '', site: '', group: '', tag: '', firmware: '' };

describe('rows of the fleet', () => {
  const rows = rowsOf(table(['a', 'b', 'c'], {
    site: ['North', 'north', ''], tags: [{ floor: '2' }, { floor: '3', spare: '' }, {}], groups: [['power'], [], ['power', 'roof']],
    model: ['Eastron SDM630', '', ''], state: ['online', 'offline', 'never'], revoked: [false, false, true], software: ['agent 1', 'agent 1', ''],
  }));

  it('are found by every word, in any case, and by their state in full', () => {
    const found = (typed: string): string => rows.filter((row) => fits(row, typed.toLowerCase().split(/\s+/).filter(Boolean), NONE)).map((row) => row.id).join('');
    expect([found(''), found('NORTH'), found('north eastron'), found('offline'), found('onlin'), found('revoked'), found('floor=3')]).toEqual(['abc', 'ab', 'a', 'b', '', 'c', 'b']);
  });

  it('are filtered by exact values, of which the options tell how many there are', () => {
    expect(rows.filter((row) => fits(row, [], { ...NONE, site: 'north' })).map((row) => row.id)).toEqual(['b']);
    expect(optionsOf(rows, 'group')).toEqual([['power', 2], ['roof', 1]]);
    expect(optionsOf(rows, 'tag')).toEqual([['floor=2', 1], ['floor=3', 1], ['spare', 1]]);
    expect(optionsOf(rows, 'firmware')).toEqual([['agent 1', 2]]);
    expect(optionsOf(rows, 'state').map(([state]) => state)).toEqual(['offline', 'online', 'revoked']);
  });

  it('have no firmware where none is known: the program of an agent is that of what it reads no more than its name', () => {
    const [own, behind] = rowsOf(table(['a', 'meter'], { agent: ['a', 'a'], software: ['edge-agent 1', 'edge-agent 1'] }));
    expect([own.firmware, behind.firmware]).toEqual(['edge-agent 1', '']);
    expect(optionsOf([own, behind], 'firmware')).toEqual([['edge-agent 1', 1]]);
  });

  it('are sorted by each column, those of one key by their ids', () => {
    const order = (text: string): string => sorted(rows, parseSort(text)).map((row) => row.id).join('');
    expect([order('id'), order('-id'), order('state'), order('firmware'), order('rate'), order('-nonsense')]).toEqual(['abc', 'cba', 'bac', 'cab', 'abc', 'abc']);
    expect(sortText(parseSort('-backlog'))).toBe('-backlog');
    expect(parseSort(null)).toEqual({ by: 'id', descending: false });
  });

  it('with the worst heartbeats come first', () => {
    const beaten = rowsOf(table(['a', 'b', 'c'], { hours: ['o'.repeat(24), `${'o'.repeat(23)}x`, '.'.repeat(24)] }));
    expect(sorted(beaten, parseSort('beats')).map((row) => row.id)).toEqual(['b', 'a', 'c']);
  });
});

describe('the rows that are drawn', () => {
  it('cover what can be seen, and the others keep their room', () => {
    for (const top of [0, 310, 309_000, 310_000]) {
      const { first, end, above, below } = windowOf(top, 600, 31, 10_000);
      expect(above + below + (end - first) * 31).toBe(310_000);
      expect(first * 31).toBeLessThanOrEqual(top);
      expect(Math.min(end * 31, 310_000)).toBeGreaterThanOrEqual(Math.min(top + 600, 310_000));
      expect(end - first).toBeLessThan(60);
    }
  });

  it('are none of none, also where the page was scrolled further than it is long', () => {
    expect(windowOf(0, 600, 31, 0)).toEqual({ first: 0, end: 0, above: 0, below: 0 });
    const { first, end } = windowOf(90_000, 600, 31, 3);
    expect([first, end]).toEqual([0, 3]);
  });
});

describe('a heartbeat', () => {
  it('is drawn by stretches of one sign', () => {
    expect(runs('..ooox')).toEqual([{ sign: '.', from: 0, length: 2 }, { sign: 'o', from: 2, length: 3 }, { sign: 'x', from: 5, length: 1 }]);
    expect(runs('')).toEqual([]);
    const drawn = strip(runs('oaoxx'));
    expect(drawn.map(([sign, path]) => [sign, path.match(/M/g)?.length])).toEqual([['o', 2], ['a', 1], ['x', 1]]);
    expect([crosses(runs('oo')), crosses(runs('oaoxx'))]).toEqual(['', 'M12 2L19.4 14']);
  });
});

describe('a sparkline', () => {
  it('breaks where nobody looked, and a moment alone is a dot', () => {
    const line = spark([0, 1, 2, 5, 7, 8], [1, 2, 3, 4, null, 5], 1, 9);
    expect(line).toMatchObject({ low: 1, high: 5 });
    expect(line?.path.match(/M/g)?.length).toBe(3);
    expect(line?.path.match(/h0/g)?.length).toBe(2);
    expect(line?.path.startsWith('M0.0 ')).toBe(true);
    expect(line?.path).toContain('M100.0 ');
  });

  it('is nothing where nothing is known', () => {
    expect(spark([], [], 1, 9)).toBeNull();
    expect(spark([1], [null], 1, 9)).toBeNull();
  });

  it('of one value stays in its box', () => {
    for (const value of [0, 7, -3]) expect(spark([0, 1], [value, value], 1, 2)?.path).not.toContain('NaN');
  });
});
