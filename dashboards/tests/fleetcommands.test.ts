import { describe, expect, it } from 'vitest';
import type { Command } from '../src/api/commands';
import { askedOf, asksFor, countsOf, isAsked, NO_FILTERS, paramsOf, parts, targetsOf, withCommands, withEvent, withHead } from '../src/lib/fleetcommands';
import type { Asked } from '../src/lib/fleetcommands';
import type { Row } from '../src/lib/fleettable';

const one = (id: string, state: Command['state'] = 'queued', changed_ms = 10): Command => ({
  id, device: 'pump-1', agent: 'pump-1', kind: 'sync', input: {}, state, priority: 0, author: 'ann', correlation_id: null, created_ms: 5,
  deadline_ms: 99, changed_ms, ended_ms: null, attempt: 1, attempts: 3, percent: null, error: null, result: {}, output_bytes: 0, cancel: false,
});
const event = (id: string, state: Command['state'], time_ms: number) => ({ id, device: 'pump-1', kind: 'sync', state, attempt: 1, percent: 40, error: null, time_ms });

describe('what is asked for', () => {
  it('is what the address names, and nothing else', () => {
    const asked = askedOf(new URLSearchParams('state=failed&kind=&device=%20pump-*&since=24h&other=1'));
    expect(asked).toEqual({ state: 'failed', device: 'pump-*', since: '24h' });
    expect(paramsOf(asked)).toEqual({ state: 'failed', device: 'pump-*', from: '-24h' });
    expect(paramsOf(askedOf(new URLSearchParams('since=soon')))).toEqual({});
  });
});

describe('a list of commands', () => {
  it('takes what events tell that are newer than what it has', () => {
    const all = [one('b'), one('a', 'succeeded', 50)];
    const next = withEvent(all, event('b', 'running', 11));
    expect([next.known, next.all[0].state, next.all[0].percent]).toEqual([true, 'running', 40]);
    expect(withEvent(all, event('a', 'running', 20)).all).toBe(all);
    expect(withEvent(all, event('c', 'queued', 20))).toEqual({ all, known: false });
  });

  it('is asked for again where an event does not tell enough, and only of what can fit', () => {
    expect([asksFor(event('a', 'running', 1), true, {}), asksFor(event('a', 'failed', 1), true, {}), asksFor(event('a', 'running', 1), false, {})]).toEqual([false, true, true]);
    const asks = (asked: Asked): boolean => asksFor(event('a', 'running', 1), false, asked);
    expect([asks({ device: 'valve, pump-*' }), asks({ kind: 's*c' }), asks({ state: 'open' }), asks({ author: 'ben' })]).toEqual([true, true, true, true]);
    expect([asks({ device: 'pump' }), asks({ device: 'p.mp-1' }), asks({ kind: 'write' }), asks({ state: 'failed' })]).toEqual([false, false, false, false]);
  });

  it('has commands as they are now, and those alone that are asked for', () => {
    const now = 4_000_000;
    const all = [one('d'), one('b')];
    const put = (found: Command[], end: string | null, asked: Asked) => withCommands(all, found, end, (each) => isAsked(each, asked, now)).map(({ id, state }) => `${id} ${state}`);
    expect(put([one('c'), one('b', 'failed'), one('a')], 'b', {})).toEqual(['d queued', 'c queued', 'b failed']);
    expect(put([one('c'), one('c', 'running')], 'b', {})).toEqual(['d queued', 'c running', 'b queued']);
    expect(put([one('b', 'failed'), one('a')], null, { state: 'open' })).toEqual(['d queued', 'a queued']);
    const others: Asked[] = [{ author: 'ben' }, { correlation: 'x' }, { since: '1h' }, { device: 'valve' }];
    for (const asked of others) expect(put([one('e')], null, asked)).toEqual(['d queued', 'b queued']);
  });

  it('keeps what is older than a newer first page', () => {
    const all = [one('d'), one('c'), one('b'), one('a')];
    const ids = (head: Command[], hasMore: boolean) => {
      const found = withHead(all, head, hasMore);
      return [found.all.map(({ id }) => id).join(''), found.meets];
    };
    expect(ids([one('f'), one('d'), one('c')], true)).toEqual(['fdcba', true]);
    expect(ids([one('f'), one('e'), one('d')], true)).toEqual(['fedcba', true]);
    expect(ids([one('f')], false)).toEqual(['f', false]);
    expect(ids([], true)).toEqual(['dcba', true]);
  });

  it('does not join what a newer first page does not reach: there may be others between', () => {
    const found = withHead([one('b'), one('a')], [one('f'), one('e')], true);
    expect([found.all.map(({ id }) => id), found.meets]).toEqual([['f', 'e'], false]);
  });

  it('is counted by state', () => {
    expect(countsOf([one('a'), one('b', 'failed'), one('c')])).toEqual([['queued', 2], ['failed', 1]]);
  });
});

describe('whom a command is for', () => {
  const row = (id: string, agent: string, state: Row['state'] = 'online'): Row => ({
    id, title: '', agent, site: id.startsWith('n') ? 'north' : 'south', groups: [], tags: [], firmware: '', state, last: null, rate: 0, backlog: 0, produced: 0,
    stored: 0, dropped: 0, refused: 0, gaps: 0, balanced: true, hours: '', minutes: '', more: '',
  });
  const rows = [row('n1', 'n1'), row('n1-meter', 'n1'), row('s1', 's1'), row('n2', 'n2', 'revoked')];

  it('is who fits, and nobody who was shut out', () => {
    expect(targetsOf(rows, 'agents', '', NO_FILTERS)).toEqual({ ids: ['n1', 's1'], revoked: 1 });
    expect(targetsOf(rows, 'behind', '', NO_FILTERS)).toEqual({ ids: ['n1-meter'], revoked: 0 });
    expect(targetsOf(rows, 'all', 'n1', { ...NO_FILTERS, site: 'north' })).toEqual({ ids: ['n1', 'n1-meter'], revoked: 0 });
  });

  it('is asked in parts', () => {
    expect(parts([1, 2, 3, 4, 5], 2)).toEqual([[1, 2], [3, 4], [5]]);
    expect(parts([], 2)).toEqual([]);
  });
});
