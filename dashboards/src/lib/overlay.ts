// Several series in one chart: their columns along one axis of time, an axis of
// values for each unit, an earlier period moved over the one that is shown. Pure.
import type { SqlAnswer, Series } from '../api/client';
import { emptyBuckets, splitGaps, type Buckets } from './series';

/** Series in one chart at most: as many as there are colours with lines of their own. */
export const LINES_MAX = 8;
/** Units in one chart at most: each has an axis, and the axes take the room of the lines. */
export const UNITS_MAX = 4;

/** One series of the chart. */
export interface Line {
  id: string;
  unit: string;
  whole: boolean;
  buckets: Buckets;
  /** The tier that answered. */
  tier: string;
  /** The earlier period, at its own times; null when nothing is compared. */
  earlier: Buckets | null;
  earlierTier: string;
}

type Column = (number | null)[];
/** Columns of their own times, as uPlot joins them. */
export type Table = [number[], ...Column[]];

/** A line's tables: min, max and mean; then the earlier period's mean, moved by `offset`. */
export function tablesOf(line: Line, width: number, offset: number): Table[] {
  const drawn = splitGaps(line.buckets, width);
  const now: Table = [drawn.x, drawn.min, drawn.max, drawn.mean];
  if (line.earlier === null) return [now];
  const earlier = splitGaps(line.earlier, width);
  return [now, [earlier.x.map((t) => t + offset), earlier.mean]];
}

/** The rows of `x` that no line reaches: those of buckets with a break on both sides. */
export function lonelyRows(x: number[], buckets: Buckets, width: number, offset = 0): number[] {
  const drawn = splitGaps(buckets, width);
  const lonely = new Set(drawn.lonely.map((row) => drawn.x[row] + offset));
  return x.flatMap((t, row) => (lonely.has(t) ? [row] : []));
}

/** The units of lines, each once, in order. */
export function unitsOf(lines: { unit: string }[]): string[] {
  return [...new Set(lines.map((line) => line.unit))];
}

/** Why a series cannot be added to those chosen; null when it can. */
export function refusal(series: Series, chosen: { id: string; unit: string }[]): 'text' | 'lines' | 'units' | null {
  if (series.type === 'text') return 'text';
  if (chosen.length >= LINES_MAX) return 'lines';
  return unitsOf([...chosen, series]).length > UNITS_MAX ? 'units' : null;
}

/** The bucket that holds a time, as a row of it; -1 for none. */
export function bucketAt(b: Buckets, t: number, width: number): number {
  let found = -1;
  for (let i = 0; i < b.t.length && b.t[i] <= t; i += 1) found = i;
  return found >= 0 && t - b.t[found] <= width * 2 ? found : -1;
}

/**
 * Lines of an answer of SQL: numbers along its first timestamp, a line for each text of its first
 * column of texts. Null when it has no times or no numbers, or more lines than can be told apart.
 */
export function linesOf(answer: SqlAnswer): Line[] | null {
  const first = (type: string): number => answer.columns.findIndex((column) => column.type === type);
  const time = first('timestamp');
  const name = first('string');
  const numbers = answer.columns.flatMap(({ type }, i) => (type === 'double' || type === 'integer' ? [i] : []));
  if (time < 0 || numbers.length === 0) return null;
  const lines = new Map<string, Line>();
  const rows = answer.rows.filter((row) => typeof row[time] === 'number');
  rows.sort((a, b) => Number(a[time]) - Number(b[time]));
  for (const row of rows) {
    for (const column of numbers) {
      const v = row[column];
      if (typeof v !== 'number') continue;
      const id = name < 0 ? answer.columns[column].name : `${String(row[name])} ${answer.columns[column].name}`;
      const line = lines.get(id) ?? { id, unit: '', whole: false, buckets: emptyBuckets(), tier: '', earlier: null, earlierTier: '' };
      lines.set(id, line);
      if (lines.size > LINES_MAX) return null;
      // Rows of the same time are one place along the axis, from the least to the greatest.
      put(line.buckets, Number(row[time]), v);
    }
  }
  return lines.size > 0 ? [...lines.values()] : null;
}

function put(b: Buckets, t: number, v: number): void {
  const last = b.t.length - 1;
  if (last >= 0 && b.t[last] === t) {
    b.min[last] = Math.min(b.min[last], v);
    b.max[last] = Math.max(b.max[last], v);
    b.count[last] += 1;
    b.mean[last] += (v - b.mean[last]) / b.count[last];
    b.last[last] = v;
    return;
  }
  b.t.push(t);
  b.count.push(1);
  for (const column of [b.min, b.max, b.mean, b.last]) column.push(v);
}
