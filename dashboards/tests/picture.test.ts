import { afterEach, expect, test, vi } from 'vitest';
import type uPlot from 'uplot';
import { lineText, notesOf, wrapped } from '../src/lib/picture';
import { pngOf } from '../src/lib/png';

const AT = Date.UTC(2026, 10, 23, 12);
const nothing = { bands: [], marks: [], lates: [], doubts: [], earlier: null };

afterEach(() => vi.unstubAllGlobals());

test('a picture says the tier, as of when it is, and what may be missing', () => {
  expect(lineText({ id: 'pump-7/flow', unit: 'm3/h', tier: '1m', earlierTier: '1h' })).toBe('pump-7/flow m³/h (1m, earlier 1h)');
  expect(lineText({ id: 'mean', unit: '', tier: '', earlierTier: '' })).toBe('mean');
  const notes = notesOf(nothing, { asOf: AT, partial: true, missing: [{ device: 'pump-7', after_ms: null, cause: 'offline' }, { device: 'pump-8', after_ms: null, cause: 'backlog' }], dropped: [] });
  expect(notes[0]).toMatch(/^as of 2026-11-23 /);
  expect(notes[1]).toBe('Incomplete: pump-7: its agent is not connected; pump-8: its agent still holds readings');
});

test('a picture of a whole answer says no more than its time', () => {
  expect(notesOf(nothing, { asOf: AT, partial: false, missing: [], dropped: [] }).length).toBe(1);
  expect(notesOf(nothing, undefined)).toEqual([]);
});

test('a long note has several lines, and loses nothing', () => {
  expect(wrapped('one two three', 8)).toEqual(['one two', 'three']);
  expect(wrapped('onetwothree', 4)).toEqual(['onet', 'woth', 'ree']);
  expect(wrapped('', 4)).toEqual(['']);
});

test('what is drawn over the lines is told: gaps, corrected times, readings left out', () => {
  const drawn = { bands: [{}], marks: [{}], lates: [{}], doubts: [{}], earlier: { from: AT - 2000, to: AT - 1000 } };
  const notes = notesOf(drawn, { asOf: AT, partial: false, missing: [], dropped: ['5 of pump-7'] });
  for (const part of ['Pale', '5 of pump-7', 'Along the foot', 'grey the other way', 'At the top']) expect(notes.some((note) => note.includes(part)), part).toBe(true);
  expect(notesOf(drawn, undefined).some((note) => note.startsWith('Hatched'))).toBe(true);
});

test('the picture has its notes, and the marks of the page at their places', async () => {
  const texts: string[] = [];
  const strokes: { y: number; colour: string; dash: number[]; x: number[] }[] = [];
  const state = { strokeStyle: '', dash: [] as number[], path: [] as number[][] };
  const context = new Proxy({}, {
    get: (_, name) => {
      if (name === 'fillText') return (text: string) => { texts.push(text); };
      if (name === 'setLineDash') return (dash: number[]) => { state.dash = dash; };
      if (name === 'beginPath') return () => { state.path = []; };
      if (name === 'moveTo' || name === 'lineTo') return (x: number, y: number) => { state.path.push([x, y]); };
      if (name === 'stroke') return () => { strokes.push({ y: state.path[0]?.[1], colour: state.strokeStyle, dash: state.dash, x: state.path.map(([x]) => x) }); };
      return () => undefined;
    },
    set: (_, name, value: string) => {
      if (name === 'strokeStyle') state.strokeStyle = value;
      return true;
    },
  });
  const canvas = { getContext: () => context, toBlob: (done: (blob: Blob) => void) => done(new Blob(['png'])) };
  vi.stubGlobal('document', { createElement: () => canvas, documentElement: {}, body: {} });
  vi.stubGlobal('getComputedStyle', () => ({ fontFamily: 'sans-serif', getPropertyValue: (name: string) => name }));
  const plot = { width: 104, height: 100, bbox: { left: 20, top: 10, width: 160, height: 80 }, ctx: { canvas: { width: 104 } }, valToPos: (at: number) => at } as unknown as uPlot;
  const blob = await pngOf(plot, {
    title: 'T', lines: ['a (raw)'], bands: [], lates: [], notes: ['as of now', 'Incomplete: why it is'],
    marks: [{ from: 10, to: 40, shifts: [null] }], doubts: [{ from: 50, to: 51, counts: new Map([['bad', 1]]) }, { from: 70, to: 90, counts: new Map([['uncertain', 2]]) }],
  });
  expect(blob?.size).toBe(3);
  expect(texts).toEqual(['T', 'a (raw)', 'as of now', 'Incomplete: why', 'it is']);
  expect(strokes.slice(-3)).toEqual([
    { y: 88.5, colour: '--warn', dash: [], x: [30, 60] },
    { y: 11.5, colour: '--bad', dash: [], x: [70, 73] },
    { y: 11.5, colour: '--warn', dash: [3, 3], x: [90, 110] },
  ]);
});
