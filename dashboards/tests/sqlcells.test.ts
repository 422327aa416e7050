import { expect, test } from 'vitest';
import { NONE } from '../src/lib/format';
import { cellText } from '../src/lib/sqlcells';

test('values are told with all of their digits', () => {
  const numbers = [123456.789, 0.000123456789, 0.1 + 0.2, -5e-324, 1.7976931348623157e308];
  expect(numbers.map((n) => Number(cellText(n, 'double')))).toEqual(numbers);
  expect(cellText(1_234_567_890, 'integer')).toBe('1234567890');
});

test('times are told in UTC, and their milliseconds where there are some', () => {
  const at = Date.UTC(2025, 9, 1);
  expect([cellText(at, 'timestamp'), cellText(at + 100, 'timestamp')]).toEqual(['2025-10-01 00:00:00Z', '2025-10-01 00:00:00.100Z']);
  expect(cellText(1e20, 'timestamp')).toBe('100000000000000000000');
});

test('what is nothing, a list or a truth value is told as such', () => {
  expect([cellText(null, 'double'), cellText(true, 'boolean'), cellText(['a', 1] as never, 'list'), cellText('', 'text')]).toEqual([NONE, 'true', '["a",1]', '']);
});
