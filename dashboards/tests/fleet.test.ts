import { describe, expect, it } from 'vitest';
import type { Device } from '../src/api/client';
import { reasons } from '../src/lib/missing';
import { totals } from '../src/lib/totals';

function device(id: string, agent: string, more: Partial<Device> = {}): Device {
  const ledger = {
    produced: 10, stored: 7, pending: 3, dropped: 0, dropped_by: {}, refused: 0, duplicates: 0, lost: 1, restamped: 0, uncertain: 0, gaps: [], balanced: false, as_of_ms: null,
  };
  return {
    id, agent, state: 'online', transport: null, software: null, connected_ms: null, last_seen_ms: null,
    last_reading_ms: null, rate: 2, backlog: 3, ledger, ...more,
  };
}

describe('the sums of the fleet', () => {
  it('takes the ledger of an agent once, however many devices are behind it', () => {
    const sum = totals([device('gw', 'gw'), device('valve-1', 'gw'), device('valve-2', 'gw')]);
    expect(sum).toMatchObject({ online: 3, pending: 3, lost: 1, unbalanced: 1, rate: 6 });
  });

  it('counts a revoked device as neither online nor offline', () => {
    const sum = totals([device('a', 'a', { state: 'offline', revoked: true }), device('b', 'b', { state: 'offline' })]);
    expect(sum).toMatchObject({ online: 0, offline: 1, revoked: 1 });
  });
});

describe('presence', () => {
  it('counts agents that are late and agents that come and go by themselves', () => {
    const sum = totals([device('a', 'a', { state: 'suspect' }), device('b', 'b', { state: 'flapping' }), device('c', 'c', { state: 'never' })]);
    expect(sum).toMatchObject({ online: 0, suspect: 1, flapping: 1, offline: 0 });
  });
});

describe('why an answer is incomplete', () => {
  it('names each device and cause once', () => {
    const missing = { device: 'pump-7', after_ms: null, cause: 'offline' as const };
    expect(reasons([missing, { ...missing }])).toBe('pump-7: its agent is not connected');
    const until = reasons([{ device: 'pump-7', after_ms: 0, cause: 'backlog' }]);
    expect(until).toMatch(/^pump-7: its agent still holds readings; complete until 19(69|70)-/);
  });

  it('says something when the hub names nothing', () => {
    expect(reasons([])).toContain('may be missing');
  });
});
