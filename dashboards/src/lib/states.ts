// States along time: the raw readings of a series of truth values or texts as
// bands of equal state, live readings appended to them, and the boxes that a
// timeline of some pixels has room for. Pure.
import type { ReadingValue } from '../api/client';
import { medianInterval } from './series';

/** Rows of one series asked for at most; of a range with more, the newest are shown. */
export const STATE_ROWS_MAX = 10_000;
/** Bands kept of one series, however long the page stays open; the oldest go first. */
export const STATE_BANDS_MAX = 10_000;
/** Queries for one range at most, to find its newest rows. */
const ROUNDS_MAX = 6;
/** With fewer rows than this in the range, the state that it begins with is looked for before it. */
const SPARSE_ROWS = 100;
/** How far before the range, in lengths of it; further each time that nothing is there. */
const LEAD_LENGTHS = [10, 100, 1000];
/** With fewer rows there is no telling whether they come at a pace. */
const PACED_ROWS_MIN = 10;

export interface Row {
  t: number;
  v: ReadingValue | null;
  quality: string;
}

/** Readings of the same value and quality that follow each other. */
export interface StateBand {
  v: ReadingValue | null;
  quality: string;
  from: number;
  /** Its newest reading. */
  last: number;
  /** Where another state or silence ended it; null for the one that lasts. */
  to: number | null;
}

/** The states of one series, in order of time. */
export interface Track {
  bands: StateBand[];
  /**
   * The distance of readings (ms) when they come at a regular pace; 0 when they come as the state
   * changes. Only with a pace does silence mean that readings are missing: else a state lasts until the next.
   */
  pace: number;
  /** Before here readings of the range are not loaded, there are too many; null when all are. */
  cut: number | null;
}

export function emptyTrack(): Track {
  return { bands: [], pace: 0, cut: null };
}

/** The median distance of neighbours if nine in ten are about as long; else 0. */
export function paceOf(t: number[]): number {
  if (t.length < PACED_ROWS_MIN) return 0;
  const median = medianInterval(t);
  let near = 0;
  for (let i = 1; i < t.length; i += 1) if (Math.abs(t[i] - t[i - 1] - median) <= median / 2) near += 1;
  return near >= (t.length - 1) * 0.9 ? median : 0;
}

/** The bands of rows in order of time. */
export function fromRows(rows: Row[], cut: number | null): Track {
  const track: Track = { bands: [], pace: paceOf(rows.map((row) => row.t)), cut };
  for (const row of rows) push(track, row);
  return bound(track);
}

/**
 * Appends a live reading. One that is older than the newest, or differs from it at the same time,
 * is late and changes nothing: only the hub can put it in its place.
 */
export function appendLive(track: Track, row: Row): 'appended' | 'merged' | 'late' {
  const last = track.bands[track.bands.length - 1];
  if (last && (row.t < last.last || (row.t === last.last && !isState(last, row)))) return 'late';
  const merged = push(track, row);
  bound(track);
  return merged ? 'merged' : 'appended';
}

function isState(band: StateBand, row: Row): boolean {
  return band.v === row.v && band.quality === row.quality;
}

/** Beyond this after the newest reading of a paced series, readings are missing; as a line of numbers breaks. */
function holds(track: Track): number {
  return track.pace > 0 ? 3 * track.pace : Number.POSITIVE_INFINITY;
}

function push(track: Track, row: Row): boolean {
  const last = track.bands[track.bands.length - 1];
  if (last) {
    const silent = row.t - last.last > holds(track);
    if (!silent && isState(last, row)) {
      last.last = row.t;
      return true;
    }
    last.to = silent ? last.last + track.pace : row.t;
  }
  track.bands.push({ v: row.v, quality: row.quality, from: row.t, last: row.t, to: null });
  return false;
}

function bound(track: Track): Track {
  const over = track.bands.length - STATE_BANDS_MAX;
  if (over > 0) {
    track.bands.splice(0, over);
    track.cut = track.bands[0].from;
  }
  return track;
}

/** Until when a band is known to last, as far as `now`. */
export function endOf(track: Track, band: StateBand, now: number): number {
  if (band.to !== null) return band.to;
  return now - band.last > holds(track) ? band.last + track.pace : Math.max(now, band.last);
}

/** Drops the bands that ended before `from`. */
export function trimStates(track: Track, from: number): void {
  let gone = 0;
  while (gone < track.bands.length && (track.bands[gone].to ?? Number.POSITIVE_INFINITY) < from) gone += 1;
  if (gone > 0) track.bands.splice(0, gone);
  if (track.cut !== null && track.cut <= from) track.cut = null;
}

/** What is drawn as one: a band, or several that are too short to be told apart. */
export interface StateBox {
  from: number;
  to: number;
  /** Its first band, by its place in the track. */
  first: number;
  /** How many bands it holds. */
  bands: number;
}

/**
 * The bands that touch [from, to], cut to it. Neighbours shorter than `near` ms become one box, so
 * that ten thousand bands stay as few boxes as there is room for.
 */
export function stateBoxes(track: Track, from: number, to: number, near: number): StateBox[] {
  const boxes: StateBox[] = [];
  let short = false;
  track.bands.forEach((band, i) => {
    const start = Math.max(band.from, from);
    const end = Math.min(endOf(track, band, to), to);
    if (end < from || start > to || end < start) return;
    const last = boxes[boxes.length - 1];
    const joins = short && end - start < near && last !== undefined && start - last.to <= near;
    short = end - start < near;
    if (joins) {
      last.to = end;
      last.bands += 1;
    } else {
      boxes.push({ from: start, to: end, first: i, bands: 1 });
    }
  });
  return boxes;
}

/** The box at a time, or the nearest within `near` ms of it; -1 for none. */
export function boxAt(boxes: StateBox[], t: number, near: number): number {
  let best = -1;
  let distance = near;
  boxes.forEach((box, i) => {
    const away = Math.max(box.from - t, t - box.to, 0);
    // Of two that meet at t, the later one holds.
    if (away <= distance) {
      best = i;
      distance = away;
    }
  });
  return best;
}

/** Rows of [from, to] from its beginning, and whether there are more than were asked for. */
export interface Page {
  rows: Row[];
  more: boolean;
}
export type Ask = (from: number, to: number) => Promise<Page>;

/**
 * The newest rows of [from, to], and the one before it that tells the state at its beginning.
 *
 * The hub gives rows from the beginning on. When a page does not reach the end, the next one begins
 * where the pace so far says that the rest fits, and at least half of the way further on.
 */
export async function loadTrack(from: number, to: number, ask: Ask): Promise<Track> {
  let start = from;
  for (let round = 0; round < ROUNDS_MAX; round += 1) {
    const { rows, more } = await ask(start, to);
    if (!more) {
      const sparse = start === from && rows.length < SPARSE_ROWS && rows[0]?.t !== from;
      const lead = sparse ? await leadIn(from, to, ask) : [];
      return fromRows([...lead, ...rows], start === from ? null : start);
    }
    // Their own length, not that since `start`: a range may be empty for long before its first reading.
    const length = rows.length > 0 ? rows[rows.length - 1].t - rows[0].t : 0;
    start = Math.max(Math.ceil((start + to) / 2), Math.floor(to - length * 0.8));
  }
  return { ...emptyTrack(), cut: to };
}

async function leadIn(from: number, to: number, ask: Ask): Promise<Row[]> {
  let end = from - 1;
  for (const lengths of LEAD_LENGTHS) {
    const start = Math.max(0, from - lengths * (to - from));
    if (start > end) break;
    const { rows, more } = await ask(start, end);
    // Too many to reach the newest: the beginning stays open.
    if (more) break;
    if (rows.length > 0) return rows.slice(-1);
    end = start - 1;
  }
  return [];
}
