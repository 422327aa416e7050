import { describe, expect, it } from 'vitest';
import type { Uplink } from '../src/api/client';
import { isInUse, ms, percent, share, transportOf } from '../src/lib/ways';

describe('the way of an agent', () => {
  const way = (transport: string, carries: boolean) => ({ address: 'hub:1', transport, carries, breaker: 'closed', failures: 0, wait_ms: 0, rtt_ms: null, loss: 0 });
  const uplink: Uplink = { as_of_ms: 1, ways: [way('quic', false), way('mqtt', true)], switches: 1, spool_bytes: 0, spool_quota_bytes: 0 };

  it('is in use while the agent is there, and the last one else', () => {
    expect(isInUse({ transport: 'mqtt', state: 'online' })).toBe(true);
    expect(isInUse({ transport: 'mqtt', state: 'suspect' })).toBe(true);
    // Its line is cut, and its session has not ended.
    expect(isInUse({ transport: 'mqtt', state: 'offline' })).toBe(false);
    expect(isInUse({ transport: null, state: 'flapping' })).toBe(false);
    expect(isInUse({ transport: 'quic', state: 'online', revoked: true })).toBe(false);
    expect([transportOf({ transport: 'quic', uplink }), transportOf({ transport: null, uplink }), transportOf({ transport: null })]).toEqual(['quic', 'mqtt', null]);
  });
});

describe('figures of a way', () => {
  it('are short', () => {
    expect([ms(0), ms(0.34), ms(41.6), ms(1000)]).toEqual(['0 ms', '0.3 ms', '42 ms', '1000 ms']);
    expect([percent(0), percent(0.0234), percent(1)]).toEqual(['0.0 %', '2.3 %', '100.0 %']);
    expect([share(1, 4), share(3, 0)]).toEqual(['25.0 %', '–']);
  });
});
