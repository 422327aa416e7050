import { afterEach, expect, test, vi } from 'vitest';
import type { Board, BoardAnswer } from '../src/api/boards';
import { Editor } from '../src/lib/boards/edit.svelte';

const board = (title: string): Board => ({ version: 1, title, panels: [] });
const answer = (title: string, version: number): BoardAnswer => ({ info: { id: 'b', title, about: '', panels: 0, shipped: false, version, by: 'anna', changed_ms: 1 }, board: board(title) });

/** A hub that answers one after the other; what it was asked. */
function hub(...answers: [number, object][]): { method: string; match: string | null }[] {
  const asked: { method: string; match: string | null }[] = [];
  vi.stubGlobal('fetch', (_: string, init: RequestInit) => {
    asked.push({ method: init.method ?? 'GET', match: new Headers(init.headers).get('if-match') });
    const [status, body] = answers[asked.length - 1];
    return Promise.resolve(new Response(JSON.stringify(body), { status }));
  });
  return asked;
}
afterEach(() => vi.unstubAllGlobals());

test('a board is saved of the version that was seen, and is unchanged then', async () => {
  const asked = hub([200, answer('Mine', 4)]);
  const editor = new Editor('b', answer('First', 3));
  editor.change(board('Mine'));
  expect([editor.isChanged, await editor.save(), editor.isChanged, editor.version]).toEqual([true, true, false, 4]);
  expect(asked).toEqual([{ method: 'PUT', match: '"3"' }]);
  editor.undo();
  expect([editor.board.title, editor.isChanged]).toEqual(['First', true]);
});

test('what somebody else saved is told, and is written over or taken as people say', async () => {
  const asked = hub([412, { code: 'board-changed', detail: 'changed' }], [200, answer('Theirs', 9)], [200, answer('Mine', 10)]);
  const editor = new Editor('b', answer('First', 3));
  editor.change(board('Mine'));
  expect(await editor.save()).toBe(false);
  expect([editor.theirs?.board.title, editor.board.title]).toEqual(['Theirs', 'Mine']);
  expect(await editor.saveOver()).toBe(true);
  expect([editor.theirs, editor.version]).toEqual([null, 10]);
  expect(asked.map(({ match }) => match)).toEqual(['"3"', null, '"9"']);
});

test('one’s own changes can be had back after theirs were taken', async () => {
  hub([412, { code: 'board-changed', detail: 'changed' }], [200, answer('Theirs', 9)]);
  const editor = new Editor('b', answer('First', 3));
  editor.change(board('Mine'));
  await editor.save();
  editor.takeTheirs();
  expect([editor.board.title, editor.isChanged, editor.version]).toEqual(['Theirs', false, 9]);
  editor.undo();
  expect(editor.board.title).toBe('Mine');
});

test('a panel is added where there is room, altered and taken away, each a step', () => {
  const editor = new Editor('b', answer('First', 1));
  editor.add('line');
  editor.add('stat');
  expect(editor.board.panels.map(({ id, x, y }) => `${id} ${x} ${y}`)).toEqual(['panel-1 0 0', 'panel-2 6 0']);
  editor.move('panel-2', { x: 0, y: 0, w: 3, h: 4 });
  expect(editor.board.panels.map(({ x, y }) => `${x} ${y}`)).toEqual(['0 4', '0 0']);
  // Where it is already is no step.
  editor.move('panel-2', { x: 0, y: 0, w: 3, h: 4 });
  editor.remove('panel-2');
  expect([editor.board.panels.map(({ y }) => y), editor.chosen, editor.steps.past.length]).toEqual([[0], null, 4]);
});
