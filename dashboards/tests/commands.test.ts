import { describe, expect, it } from 'vitest';
import { brief, EMPTY, orderOf, type Form } from '../src/lib/commands';

const form: Form = { ...EMPTY, point: ' relay/1 ', value: 'true', lines: 50, otherKind: 'read', input: '' };

describe('a form of a command', () => {
  it('becomes the kind and input that the agent knows', () => {
    expect(orderOf(form)).toEqual({ kind: 'sync', input: {} });
    expect(orderOf({ ...form, kind: 'write' })).toEqual({ kind: 'write', input: { point: 'relay/1', value: true } });
    expect(orderOf({ ...form, kind: 'write', value: 'auto' })?.input).toEqual({ point: 'relay/1', value: 'auto' });
    expect(orderOf({ ...form, kind: 'logs' })?.input).toEqual({ lines: 50 });
    expect(orderOf({ ...form, kind: 'other' })).toEqual({ kind: 'read', input: {} });
    expect(orderOf({ ...form, kind: 'other', input: '{"points":["a"]}' })?.input).toEqual({ points: ['a'] });
  });

  it('with an input that is no object is none', () => {
    for (const input of ['[1]', '1', 'null', '"a"', '{a', 'text']) expect(orderOf({ ...form, kind: 'other', input })).toBeNull();
  });
});

describe('what came of a command', () => {
  it('stands in one line', () => {
    expect([brief(null), brief({}), brief('done'), brief({ a: 1 })]).toEqual(['', '', 'done', '{"a":1}']);
    expect(brief('x'.repeat(100), 10)).toBe(`${'x'.repeat(9)}…`);
  });
});
