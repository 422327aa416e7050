import { describe, expect, it } from 'vitest';
import * as s from '../src/lib/states';

const row = (t: number, v: s.Row['v'], quality = 'good'): s.Row => ({ t, v, quality });
/** Rows 1 s apart of one value. */
const every = (n: number, v: s.Row['v'], start = 0): s.Row[] => Array.from({ length: n }, (_, i) => row(start + i * 1000, v));

describe('merging states into bands', () => {
  it('makes one band of equal neighbours and ends it where the next begins', () => {
    const track = s.fromRows([row(0, 'idle'), row(5, 'idle'), row(9, 'run'), row(20, 'idle')], null);
    expect(track.bands).toEqual([
      { v: 'idle', quality: 'good', from: 0, last: 5, to: 9 },
      { v: 'run', quality: 'good', from: 9, last: 9, to: 20 },
      { v: 'idle', quality: 'good', from: 20, last: 20, to: null },
    ]);
  });

  it('tells another quality, null and a text that looks like a truth value apart', () => {
    const track = s.fromRows([row(0, true), row(1, true, 'bad'), row(2, null), row(3, 'true'), row(4, true)], null);
    expect(track.bands.map((band) => [band.v, band.quality])).toEqual([
      [true, 'good'], [true, 'bad'], [null, 'good'], ['true', 'good'], [true, 'good'],
    ]);
  });

  it('lets a state last until the next when readings come as it changes', () => {
    const track = s.fromRows([row(0, 'a'), row(1000, 'b'), row(90_000, 'c')], null);
    expect(track.pace).toBe(0);
    expect(track.bands[1].to).toBe(90_000);
    expect(s.endOf(track, track.bands[2], 9e9)).toBe(9e9);
  });

  it('ends a state at a silence when readings come at a pace', () => {
    const track = s.fromRows([...every(20, true), ...every(20, true, 60_000)], null);
    expect(track.pace).toBe(1000);
    expect(track.bands).toEqual([
      { v: true, quality: 'good', from: 0, last: 19_000, to: 20_000 },
      { v: true, quality: 'good', from: 60_000, last: 79_000, to: null },
    ]);
    expect(s.endOf(track, track.bands[1], 81_000)).toBe(81_000);
    expect(s.endOf(track, track.bands[1], 100_000)).toBe(80_000);
  });

  it('keeps a bounded number of bands, the newest', () => {
    const rows = Array.from({ length: s.STATE_BANDS_MAX + 5 }, (_, i) => row(i * i, i % 2 === 0));
    const track = s.fromRows(rows, null);
    expect(track.bands.length).toBe(s.STATE_BANDS_MAX);
    expect(track.bands[0].from).toBe(25);
    expect(track.cut).toBe(25);
  });
});

describe('appending live readings', () => {
  it('lengthens the newest band or opens another', () => {
    const track = s.emptyTrack();
    expect(s.appendLive(track, row(10, false))).toBe('appended');
    expect(s.appendLive(track, row(20, false))).toBe('merged');
    expect(s.appendLive(track, row(30, true))).toBe('appended');
    expect(track.bands.map((band) => [band.v, band.from, band.to])).toEqual([[false, 10, 30], [true, 30, null]]);
  });

  it('takes what the query already held for nothing new', () => {
    const track = s.fromRows([row(10, 'a')], null);
    expect(s.appendLive(track, row(10, 'a'))).toBe('merged');
    expect(track.bands).toEqual([{ v: 'a', quality: 'good', from: 10, last: 10, to: null }]);
  });

  it('calls an older reading late, or another state at the same time, and changes nothing', () => {
    const track = s.fromRows([row(10, 'a')], null);
    const before = structuredClone(track);
    expect(s.appendLive(track, row(9, 'a'))).toBe('late');
    expect(s.appendLive(track, row(10, 'b'))).toBe('late');
    expect(track).toEqual(before);
  });
});

describe('moving on', () => {
  it('keeps the state in effect at the beginning and forgets a cut that lies before it', () => {
    const track = s.fromRows([row(0, 'a'), row(10, 'b'), row(20, 'c')], 5);
    s.trimStates(track, 15);
    expect(track.bands.map((band) => band.v)).toEqual(['b', 'c']);
    expect(track.cut).toBeNull();
  });
});

describe('boxes', () => {
  it('cuts bands to the range', () => {
    const track = s.fromRows([row(0, 'a'), row(100, 'b'), row(200, 'c')], null);
    expect(s.stateBoxes(track, 50, 150, 1)).toEqual([
      { from: 50, to: 100, first: 0, bands: 1 },
      { from: 100, to: 150, first: 1, bands: 1 },
    ]);
  });

  it('takes neighbours that are too short together, and a short one alone for itself', () => {
    const rows = [row(0, 'a'), row(100, 'b'), row(101, 'c'), row(102, 'b'), row(103, 'd'), row(200, 'e'), row(201, 'f')];
    expect(s.stateBoxes(s.fromRows(rows, null), 0, 300, 5)).toEqual([
      { from: 0, to: 100, first: 0, bands: 1 },
      { from: 100, to: 103, first: 1, bands: 3 },
      { from: 103, to: 200, first: 4, bands: 1 },
      { from: 200, to: 201, first: 5, bands: 1 },
      { from: 201, to: 300, first: 6, bands: 1 },
    ]);
  });

  it('are few however many bands there are', () => {
    const rows = Array.from({ length: 9000 }, (_, i) => row(i * 10 + (i % 7), i % 2 === 0));
    expect(s.stateBoxes(s.fromRows(rows, null), 0, 90_000, 300).length).toBeLessThan(300);
  });

  it('are found by time, the later where two meet, and not across a silence', () => {
    const boxes: s.StateBox[] = [
      { from: 0, to: 10, first: 0, bands: 1 }, { from: 10, to: 20, first: 1, bands: 1 }, { from: 50, to: 60, first: 2, bands: 1 },
    ];
    expect(s.boxAt(boxes, 5, 2)).toBe(0);
    expect(s.boxAt(boxes, 10, 2)).toBe(1);
    expect(s.boxAt(boxes, 35, 2)).toBe(-1);
    expect(s.boxAt(boxes, 61, 2)).toBe(2);
  });
});

describe('loading a range', () => {
  /** A hub with these rows that gives at most `most` at a time, and the ranges asked for. */
  function hub(rows: s.Row[], most: number): { ask: s.Ask; asked: [number, number][] } {
    const asked: [number, number][] = [];
    const ask: s.Ask = (from, to) => {
      asked.push([from, to]);
      const inside = rows.filter(({ t }) => t >= from && t <= to);
      return Promise.resolve({ rows: inside.slice(0, most), more: inside.length > most });
    };
    return { ask, asked };
  }

  it('says nothing was cut when all came, and finds the state at the beginning', async () => {
    const { ask, asked } = hub([row(100, 'old'), row(500, 'before'), row(1200, 'in')], 1000);
    const track = await s.loadTrack(1000, 2000, ask);
    expect(track.cut).toBeNull();
    expect(track.bands.map((band) => [band.v, band.from, band.to])).toEqual([['before', 500, 1200], ['in', 1200, null]]);
    expect(asked).toEqual([[1000, 2000], [0, 999]]);
  });

  it('looks further back for it when nothing is near, and not for ever', async () => {
    const found = hub([row(1_000_000, 'far'), row(1_099_500, 'in')], 1000);
    expect((await s.loadTrack(1_099_000, 1_100_000, found.ask)).bands.map((band) => band.from)).toEqual([1_000_000, 1_099_500]);
    expect(found.asked).toEqual([[1_099_000, 1_100_000], [1_089_000, 1_098_999], [999_000, 1_088_999]]);
    const none = hub([row(5, 'long ago')], 1000);
    expect((await s.loadTrack(9_000_000, 9_001_000, none.ask)).bands).toEqual([]);
    expect(none.asked.length).toBe(4);
  });

  it('shows the newest rows of a range with too many, and says from when on', async () => {
    const rows = Array.from({ length: 5000 }, (_, i) => row(i, i % 2 === 0));
    const track = await s.loadTrack(0, 4999, hub(rows, 1000).ask);
    expect(track.cut).toBeGreaterThan(3999);
    expect(track.bands[0].from).toBe(track.cut);
    expect(track.bands[track.bands.length - 1].from).toBe(4999);
    expect(track.bands.length).toBeGreaterThan(500);
  });

  it('needs no more than two queries at an even pace, also when the range is empty at first', async () => {
    const rows = Array.from({ length: 5000 }, (_, i) => row(1_000_000 + i, i % 2 === 0));
    const { ask, asked } = hub(rows, 1000);
    const track = await s.loadTrack(0, 1_004_999, ask);
    expect(asked.length).toBe(2);
    expect(track.bands.length).toBeGreaterThan(500);
  });

  it('gives up after a few tries when all rows lie at the very end', async () => {
    const rows = Array.from({ length: 5000 }, () => row(1e9, 'x'));
    const { ask, asked } = hub(rows, 100);
    const track = await s.loadTrack(0, 1e9, ask);
    expect(track).toEqual({ bands: [], pace: 0, cut: 1e9 });
    expect(asked.length).toBeLessThan(10);
  });

  it('leaves the beginning open when what lies before it is too much', async () => {
    const rows = [...Array.from({ length: 500 }, (_, i) => row(i, 'x')), row(1500, 'y')];
    const track = await s.loadTrack(1000, 2000, hub(rows, 100).ask);
    expect(track.bands.map((band) => band.v)).toEqual(['y']);
  });
});
