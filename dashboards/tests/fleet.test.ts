import { describe, expect, it } from 'vitest';
import type { Device } from '../src/api/client';
import { facts } from '../src/lib/about';
import { reasons } from '../src/lib/missing';

function device(id: string, agent: string, more: Partial<Device> = {}): Device {
  const ledger = {
    produced: 10, stored: 7, pending: 3, dropped: 0, dropped_by: {}, refused: 0, duplicates: 0, lost: 1, restamped: 0, uncertain: 0, gaps: [], balanced: false, as_of_ms: null,
  };
  return {
    id, agent, title: '', site: '', groups: [], tags: {}, state: 'online', transport: null, software: null, connected_ms: null, last_seen_ms: null,
    last_reading_ms: null, rate: 2, backlog: 3, ledger, ...more,
  };
}

describe('what is known of a device', () => {
  const about = { profile: 'eastron-sdm630', firmware: '', vendor: 'Eastron', model: 'SDM630', via: '' };
  const meter = device('meter-1', 'gw', { title: 'Main meter', about, site: 'north', groups: ['power'], tags: { floor: '2', spare: '' } });

  it('is told without what nobody said', () => {
    const texts = facts(meter).map(({ name, text }) => `${name}: ${text}`);
    expect(texts).toEqual(['Site: north', 'Groups: power', 'Tags: floor=2, spare', 'Made by: Eastron SDM630', 'Profile: eastron-sdm630']);
    expect(facts(device('a', 'a'))).toEqual([]);
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
