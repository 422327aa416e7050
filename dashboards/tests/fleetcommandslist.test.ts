import { afterEach, expect, test, vi } from 'vitest';
import type { Command } from '../src/api/commands';
import { FleetCommands } from '../src/lib/fleetcommands.svelte';

interface Handlers { resync: () => void; command: (event: object) => void }
const feed = vi.hoisted(() => ({ handlers: null as Handlers | null }));
vi.mock('../src/api/live', () => ({
  LiveFeed: class {
    constructor(_: unknown, handlers: Handlers) { feed.handlers = handlers; }
    close(): void {}
  },
}));

const asked = vi.hoisted(() => ({ answers: [] as (() => { commands: { id: string }[]; next: string | null })[], cursors: [] as (string | null)[], each: [] as string[] }));
vi.mock('../src/api/commands', () => ({
  command: (id: string) => {
    asked.each.push(id);
    return Promise.resolve({ id, device: 'pump-1', kind: 'sync', state: 'queued', created_ms: 5 });
  },
  allCommands: (_: unknown, __: number, cursor: string | null) => {
    asked.cursors.push(cursor);
    const answer = asked.answers.shift();
    return answer === undefined ? Promise.reject(new Error('no answer')) : Promise.resolve().then(answer);
  },
}));

const page = (ids: string, next: string | null) => () => ({ commands: [...ids].map((id) => ({ id, state: 'queued' })), next });
const ids = (all: Command[]): string => all.map(({ id }) => id).join('');
afterEach(() => { asked.answers = []; asked.cursors = []; asked.each = []; });

test('asks again when its first question was refused and the feed is back', async () => {
  const list = new FleetCommands();
  asked.answers = [() => { throw new Error('503'); }, page('ba', null)];
  list.ask({});
  await vi.waitFor(() => expect([list.error, list.loaded, list.busy]).toEqual(['503', false, false]));
  feed.handlers?.resync();
  await vi.waitFor(() => expect([ids(list.all), list.error, list.loaded]).toEqual(['ba', '', true]));
  list.close();
});

test('goes on from a newer first page that does not meet what was there', async () => {
  const list = new FleetCommands();
  asked.answers = [page('ba', 'old'), page('fe', 'new'), page('dcba', null)];
  list.ask({});
  await vi.waitFor(() => expect(ids(list.all)).toBe('ba'));
  feed.handlers?.resync();
  await vi.waitFor(() => expect(ids(list.all)).toBe('fe'));
  list.older();
  await vi.waitFor(() => expect(ids(list.all)).toBe('fedcba'));
  expect(asked.cursors).toEqual([null, null, 'new']);
  list.close();
});

test('asks for the commands that events tell of, and for no page of all', async () => {
  vi.useFakeTimers();
  const list = new FleetCommands();
  asked.answers = [page('ba', 'old')];
  list.ask({ device: 'pump-1' });
  await vi.waitFor(() => expect(ids(list.all)).toBe('ba'));
  const tell = (id: string, device: string, state: string): void => feed.handlers?.command({ id, device, kind: 'sync', state, attempt: 1, percent: null, error: null, time_ms: 99 });
  tell('x', 'valve', 'queued');
  tell('b', 'pump-1', 'running');
  await vi.advanceTimersByTimeAsync(2000);
  expect(asked.each).toEqual([]);
  tell('b', 'pump-1', 'failed');
  tell('c', 'pump-1', 'queued');
  await vi.advanceTimersByTimeAsync(2000);
  expect([asked.each, ids(list.all), asked.cursors]).toEqual([['b', 'c'], 'cba', [null]]);
  list.close();
  vi.useRealTimers();
});
