import { describe, expect, it } from 'vitest';
import * as f from '../src/lib/format';

describe('numbers', () => {
  it('sets thousands apart', () => {
    expect(f.count(0)).toBe('0');
    expect(f.count(999)).toBe('999');
    expect(f.count(1234567)).toBe('1\u202f234\u202f567');
    expect(f.count(null)).toBe(f.NONE);
  });

  it('shows slow rates with a decimal', () => {
    expect(f.rate(0.96)).toBe('1.0');
    expect(f.rate(9.96)).toBe('10');
    expect(f.rate(64.2)).toBe('64');
  });

  it('shows values with five digits and no noise', () => {
    expect(f.value(21.300000000000001)).toBe('21.3');
    expect(f.value(0)).toBe('0');
    expect(f.value(-0.00002)).toBe('-2.000e-5');
    expect(f.value(-12345.6)).toBe('-12\u202f346');
    expect(f.value(Number.NaN)).toBe(f.NONE);
  });
});

describe('times', () => {
  it('tells the age in its largest unit', () => {
    expect(f.ago(null, 0)).toBe('never');
    expect(f.ago(1000, 1500)).toBe('now');
    expect(f.ago(0, 3200)).toBe('3 s ago');
    expect(f.ago(0, 60_000)).toBe('1 min ago');
    expect(f.ago(0, 7_200_000)).toBe('2 h ago');
    expect(f.ago(0, 5 * 86_400_000)).toBe('5 d ago');
  });

  it('shows a clock that runs ahead, beyond jitter', () => {
    expect(f.ago(3000, 0)).toBe('now');
    expect(f.ago(90_000, 0)).toBe('1 min ahead');
  });

  it('labels an axis by the distance of its marks', () => {
    const t = new Date(2026, 10, 21, 14, 5, 9).getTime();
    expect(f.axisTime(t, 1000)).toBe('14:05:09');
    expect(f.axisTime(t, 60_000)).toBe('14:05');
    expect(f.axisTime(t, 86_400_000)).toBe('21 Nov');
    expect(f.axisTime(new Date(2026, 10, 21).getTime(), 60_000)).toBe('21 Nov');
  });

  it('repeats the day only where it changes', () => {
    const a = new Date(2026, 10, 21, 14, 0, 0).getTime();
    expect(f.range(a, a + 60_000)).toBe('2026-11-21 14:00:00 – 14:01:00');
    expect(f.range(a, a + 86_400_000)).toBe('2026-11-21 14:00:00 – 2026-11-22 14:00:00');
  });
});

describe('units', () => {
  it('writes UCUM as people do', () => {
    expect(f.unit('Cel')).toBe('°C');
    expect(f.unit('1')).toBe('');
    expect(f.unit('{count}')).toBe('');
    expect(f.unit('kPa')).toBe('kPa');
    const all = {
      'kW.h': 'kWh', 'W.h': 'Wh', 'A.h': 'Ah', 'V.A': 'VA', 'V.A{reactive}': 'var', 'kV.A{reactive}.h': 'kvarh', 'dB{mW}': 'dBm', '[kn_i]': 'kn', 'l/s': 'l/s',
      '1/min': '1/min', 'm3/h': 'm³/h', 'm/s2': 'm/s²', 'N.m': 'N·m', 'ug/m3': 'µg/m³', 'uS/cm': 'µS/cm', MiBy: 'MiB', 'By/s': 'B/s', kOhm: 'kΩ', '[ppm]': 'ppm', 'deg/s': '°/s', '%': '%', h: 'h',
      'mm[Hg]': 'mmHg', '/s': '1/s', um: 'µm',
    };
    for (const [ucum, text] of Object.entries(all)) expect(f.unit(ucum)).toBe(text);
    expect(f.quantity(12_500, 'V.A{reactive}')).toEqual(['12.5', 'kvar']);
  });

  it('gives bytes and watts a decimal prefix, and degrees none', () => {
    expect(f.quantity(217_566_000_000, 'By')).toEqual(['217.57', 'GB']);
    expect(f.quantity(-1_500, 'By/s')).toEqual(['-1.5', 'kB/s']);
    expect(f.quantity(12, 'By')).toEqual(['12', 'B']);
    // Rounded up to a thousand is one of the next prefix.
    expect(f.quantity(999_999, 'By')).toEqual(['1', 'MB']);
    expect(f.quantity(999_994, 'By')).toEqual(['999.99', 'kB']);
    expect(f.quantity(-999.9999, 'W')).toEqual(['-1', 'kW']);
    expect(f.shownValue(999_999, 'By', 'int')).toEqual(['1', 'MB']);
    expect([f.size(0), f.size(999), f.size(17_978), f.size(999_999), f.size(34_176_000_000), f.size(null)]).toEqual(['0 B', '999 B', '18 kB', '1 MB', '34.2 GB', '–']);
    expect([f.compact(999_999), f.compact(999_949), f.compact(-9_999_999)]).toEqual(['1 M', '999.9 k', '-10 M']);
    expect(f.quantity(54_000, 'Cel')).toEqual(['54\u202f000', '°C']);
    expect(f.quantity(undefined, 'By')).toEqual([f.NONE, 'B']);
    expect(f.axisValues([217_555e6, 217_560e6], 5e6, 'By')).toEqual(['217.555G', '217.560G']);
    expect(f.axisValues([0, 50], 50, '%')).toEqual(['0', '50']);
    expect(f.axisValues([0, 200e3, 400e3], 200e3, 'By/s')).toEqual(['0', '200k', '400k']);
  });
});

describe('marks of an axis', () => {
  it.each([
    [[90, 92.5, 95], 2.5, ['90.0', '92.5', '95.0']],
    [[0, 0.25, 0.5], 0.25, ['0.00', '0.25', '0.50']],
    [[0, 0.5, 1], 0.5, ['0.0', '0.5', '1.0']],
    [[0, 25, 50], 25, ['0', '25', '50']],
    [[1_000_000, 1_025_000], 25_000, ['1M', '1.025M']],
    [[1e12, 1.0025e12, 1.005e12], 2.5e9, ['1.0000e+12', '1.0025e+12', '1.0050e+12']],
    [[0, 2.5e-8, 5e-8], 2.5e-8, ['0', '2.5e-8', '5.0e-8']],
  ])('say where they stand: %j by %d', (marks, step, labels) => {
    expect(f.axisValues(marks, step, '')).toEqual(labels);
  });

  it('are never read the same, nor for another place, whatever the step', () => {
    for (let power = -12; power <= 14; power += 1) {
      for (const lead of [1, 2, 2.5, 5]) {
        const step = lead * 10 ** power;
        const marks = Array.from({ length: 6 }, (_, i) => (i + 38) * step);
        const read = f.axisValues(marks, step, '').map((label) => Number(label.replace('M', 'e6')));
        marks.forEach((mark, i) => expect(Math.abs(read[i] - mark)).toBeLessThan(step * 1e-6));
      }
    }
  });
});

describe('values of all kinds', () => {
  it('shows integers with every digit, and with the prefix of their unit', () => {
    expect(f.shownValue(1_234_567_890, '', 'int')).toEqual(['1\u202f234\u202f567\u202f890', '']);
    expect(f.shownValue(-42, 'A', 'int')).toEqual(['-42', 'A']);
    expect(f.shownValue(217_500_000_000, 'By', 'int')).toEqual(['217.5', 'GB']);
    expect(f.shownValue(2.5, 'A', 'float')).toEqual(['2.5', 'A']);
  });

  it('tells a reading without a value from no reading, and an empty text from none', () => {
    expect(f.shownValue(null, 'A', 'float')).toEqual([f.NO_VALUE, '']);
    expect(f.shownValue(undefined, 'A', 'float')).toEqual([f.NONE, '']);
    expect(f.shownValue(false, '', 'bool')).toEqual(['false', '']);
    expect(f.stateText('')).toBe('""');
  });
});
