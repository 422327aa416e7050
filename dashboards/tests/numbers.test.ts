import { describe, expect, it } from 'vitest';
import { changedNumber } from '../src/lib/numbers';
import { typed } from '../src/lib/twin';

describe('numbers that are typed', () => {
  it('are sent as they are, however they are written', () => {
    for (const text of ['0', '-0', '1.50', '0.1', '1e3', '100e-2', '9007199254740992', '5e-324', '1.7976931348623157e308', '[1,{"a":2.5}]', '"9007199254740993"', '{"9007199254740993":1}', '0.30000000000000004', '0e999999999']) {
      expect([text, changedNumber(text)]).toEqual([text, null]);
    }
  });

  it('are told where another one would be sent', () => {
    expect(changedNumber('9007199254740993')).toEqual({ typed: '9007199254740993', sent: '9007199254740992' });
    expect(changedNumber('{"a":[1,"x\\"1e400",1e400]}')).toEqual({ typed: '1e400', sent: 'Infinity' });
    expect(changedNumber('1e-400')?.sent).toBe('0');
    expect(changedNumber('1e9999999')?.sent).toBe('Infinity');
    expect(changedNumber('0.1000000000000000055')?.sent).toBe('0.1');
  });

  it('are the same for all doubles as a browser writes them', () => {
    let seed = 3;
    const any = (): number => { seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31; return seed / 2 ** 31; };
    for (let n = 0; n < 5000; n += 1) expect(changedNumber(String((any() - 0.5) * 10 ** Math.floor(any() * 600 - 300)))).toBeNull();
  });

  it('fail where they are typed, so that nothing else is sent', () => {
    expect(() => typed('1e400')).toThrow('1e400 would be sent as Infinity');
    expect([typed('12.5'), typed('12 apples'), typed('"1e400"')]).toEqual([12.5, '12 apples', '1e400']);
  });
});
