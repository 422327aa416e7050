import { describe, expect, test } from 'vitest';
import { cellBy, timeBy, timesOf } from '../src/lib/cursor';

describe('keys in a chart', () => {
  const times = [10, 20, 30, 40];

  test('begin at the newest reading and go from one to the next', () => {
    expect([timeBy(times, null, 'ArrowLeft'), timeBy(times, null, 'ArrowRight')]).toEqual([40, 40]);
    expect([timeBy(times, 30, 'ArrowLeft'), timeBy(times, 30, 'ArrowRight'), timeBy(times, 30, 'Home'), timeBy(times, 30, 'End')]).toEqual([20, 40, 10, 40]);
    expect([timeBy(times, 10, 'ArrowLeft'), timeBy(times, 40, 'ArrowRight')]).toEqual([10, 40]);
  });

  test('go ten readings further by pages, and away', () => {
    const many = Array.from({ length: 50 }, (_, i) => i);
    expect([timeBy(many, 30, 'PageUp'), timeBy(many, 30, 'PageDown'), timeBy(many, 3, 'PageUp')]).toEqual([20, 40, 0]);
    expect([timeBy(many, 30, 'Escape'), timeBy(many, null, 'Escape')]).toEqual([null, undefined]);
  });

  test('stay near where they were when their reading has gone out of the range', () => {
    expect([timeBy(times, 5, 'ArrowRight'), timeBy(times, 5, 'ArrowLeft'), timeBy(times, 25, 'ArrowLeft'), timeBy(times, 25, 'ArrowRight')]).toEqual([10, 10, 20, 30]);
  });

  test('that mean nothing here are left to others, and so are all without readings', () => {
    expect(['Tab', 'Enter', 'a', 'toString'].map((key) => timeBy(times, 20, key))).toEqual([undefined, undefined, undefined, undefined]);
    expect(timeBy([], null, 'ArrowLeft')).toBeUndefined();
  });

  test('stop where any of the lines has something', () => {
    expect(timesOf([{ t: [0, 20, 40] }, { t: [10, 20, 90] }], 5, 60)).toEqual([10, 20, 40]);
  });
});

test('keys in a map of colours begin at its newest cell, and stay within', () => {
  expect(cellBy(null, 'ArrowUp', 3, 24)).toEqual({ row: 2, column: 23 });
  const at = { row: 1, column: 0 };
  expect(['ArrowLeft', 'ArrowRight', 'ArrowUp', 'ArrowDown', 'Home', 'End'].map((key) => Object.values(cellBy(at, key, 3, 24) ?? {}).join())).toEqual(['1,0', '1,1', '0,0', '2,0', '1,0', '1,23']);
  expect([cellBy(at, 'Escape', 3, 24), cellBy(at, 'Tab', 3, 24), cellBy(null, 'ArrowUp', 0, 0)]).toEqual([null, undefined, undefined]);
});
