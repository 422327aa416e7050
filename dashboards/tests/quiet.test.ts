import { describe, expect, it } from 'vitest';
import { compact, shownValue } from '../src/lib/format';
import { areQuiet } from '../src/lib/quiet';

describe('a point that hardly ever says anything', () => {
  it('is one that has at most one reading while another has many', () => {
    expect(areQuiet([0, 1, 2, null, 300], false)).toEqual([true, true, false, false, false]);
    expect(areQuiet([0, 1, 2], false)).toEqual([false, false, false]);
    expect(areQuiet([0, 300], true)).toEqual([false, false]);
  });
});

describe('long numbers', () => {
  it('are shortened by a letter for where there is little room', () => {
    expect([compact(12_345_678), compact(-1_234_567_890), compact(5e12), compact(7e18), compact(999)]).toEqual(['12.35 M', '-1.235 G', '5 T', '7 E', '999']);
  });

  it('of seconds since 1970 are shown as the time', () => {
    expect(shownValue(1_763_719_200, 's', 'int')[0]).toMatch(/^2025-11-2\d \d\d:00:00$/);
    expect([shownValue(1_763_719_200, 's', 'float'), shownValue(86_400, 's', 'int')]).toEqual([['1.764e+9', 's'], ['86\u202f400', 's']]);
  });
});
