import { describe, expect, it } from 'vitest';
import { ms, percent, share } from '../src/lib/ways';

describe('figures of a way', () => {
  it('are short', () => {
    expect([ms(0), ms(0.34), ms(41.6), ms(1000)]).toEqual(['0 ms', '0.3 ms', '42 ms', '1000 ms']);
    expect([percent(0), percent(0.0234), percent(1)]).toEqual(['0.0 %', '2.3 %', '100.0 %']);
    expect([share(1, 4), share(3, 0)]).toEqual(['25.0 %', '–']);
  });
});
