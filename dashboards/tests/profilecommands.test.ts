import { render } from 'svelte/server';
import { describe, expect, it } from 'vitest';
import type { DeviceProfile, ProfileCommand } from '../src/api/profile';
import CommandFields from '../src/components/CommandFields.svelte';
import Confirm from '../src/components/Confirm.svelte';
import { EMPTY, orderOf } from '../src/lib/commands';
import { questionOf, rangeOf, strangeOf, taking } from '../src/lib/profilecommands';

const base: ProfileCommand = { name: 'heat', title: 'Set the heat', point: 'heat', value: null, kind: 'float', unit: 'Cel', min: 20, max: 300, values: [], confirm: false, timeout_ms: null, interlocks: [] };
const stop: ProfileCommand = { ...base, name: 'stop', title: 'Stop the oven', point: 'on', value: false, kind: 'bool', unit: '', min: null, max: null, confirm: true, interlocks: ['heat is 90 or less'] };
const glow: ProfileCommand = { ...base, name: 'glow', title: 'Burn it clean', min: 250, max: 300, confirm: true };
const all = [base, stop, glow];
const write = (point: string, value: unknown) => ({ kind: 'write', input: { point, value } });

describe('a command of a profile', () => {
  it('becomes a write of its point, with its own value or the one that was typed', () => {
    const form = { ...EMPTY, kind: 'profile' as const };
    expect(orderOf({ ...form, command: 'stop', value: 'true' }, all)).toEqual(write('on', false));
    expect(orderOf({ ...form, command: 'heat', value: '21.5' }, all)).toEqual(write('heat', 21.5));
    expect(orderOf({ ...form, command: 'mode', value: '12' }, [{ ...base, name: 'mode', kind: 'text' }])).toEqual(write('heat', '12'));
    expect(orderOf({ ...form, command: 'gone', value: '1' }, all)).toBeNull();
  });

  it('is asked for once more in the words of the profile, also where its point is written by itself', () => {
    expect(questionOf(all, write('on', false), 'oven-1')).toEqual({ title: 'Stop the oven', lines: ['Writes false to on of oven-1.', 'Done only while heat is 90 or less.'] });
    expect(questionOf(all, write('heat', 260), 'oven-1')).toEqual({ title: 'Burn it clean', lines: ['Writes 260 Cel to heat of oven-1.'] });
    expect(questionOf(all, write('on', 0), 'oven-1')?.title).toBe('Stop the oven');
    for (const order of [write('on', true), write('heat', 100), write('other', 1), { kind: 'restart', input: {} }]) expect(questionOf(all, order, 'oven-1')).toBeNull();
    expect(taking(all, write('heat', 260)).map((one) => one.name)).toEqual(['heat', 'glow']);
  });

  it('says what it takes', () => {
    expect([base, { ...base, max: null }, { ...base, min: null, unit: '1' }, stop].map(rangeOf)).toEqual(['20 to 300 Cel', '20 Cel or more', '300 or less', '']);
  });

  it('stands before the kinds of the agent, by its title', () => {
    const { body } = render(CommandFields, { props: { form: { ...EMPTY, kind: 'profile', command: 'heat' }, commands: all } });
    expect(body).toContain('<option value="profile:stop">Stop the oven</option>');
    expect(body).toContain('aria-label="Set the heat, 20 to 300 Cel"');
    expect(render(CommandFields, { props: { form: { ...EMPTY, kind: 'profile', command: 'stop' }, commands: all } }).body).not.toContain('command-value');
  });
});

describe('the question', () => {
  it('is a dialog with a name, and no is the nearer answer', () => {
    const { body } = render(Confirm, { props: { question: { title: 'Stop <it>', lines: ['Writes a to b.'] }, onanswer: () => undefined } });
    expect(body).toMatch(/<dialog[^>]*aria-labelledby="confirm-title"/);
    expect(body).toContain('Stop &lt;it>');
    expect(body.indexOf('confirm-yes')).toBeLessThan(body.indexOf('confirm-no'));
  });
});

it('is told where hub and agent do not have the same profile', () => {
  const told: DeviceProfile = { device: 'oven-1', profile: 'oven', origin: 'given', version: 2, agreement: 'same', sheet: null };
  expect([null, told, { ...told, agreement: 'untold' as const }].map(strangeOf)).toEqual(['', '', '']);
  expect(strangeOf({ ...told, agreement: 'other' })).toContain('another version of the profile oven');
  expect(strangeOf({ ...told, origin: 'unknown', agreement: null })).toContain('does not know the profile oven');
});
