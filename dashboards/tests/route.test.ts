import { describe, expect, it } from 'vitest';
import { deviceHash, parseHash } from '../src/lib/route';

describe('hash routes', () => {
  it('finds its way back from a device', () => {
    for (const id of ['pump-7', 'Line_3.a', 'ä b']) {
      expect(parseHash(deviceHash(id))).toEqual({ page: 'device', id });
    }
  });

  it('takes whatever it does not know for the fleet', () => {
    for (const hash of ['', '#', '#/', '#/device/', '#/device/a/b', '#/device/%', '#/nowhere']) {
      expect(parseHash(hash)).toEqual({ page: 'fleet' });
    }
  });
});
