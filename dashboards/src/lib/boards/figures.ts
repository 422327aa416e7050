// Numbers that panels show: one figure of a series' readings in the range, what it means by the
// panel's bands, and the cells of heat maps. Pure.
import type { ReadingValue } from '../../api/client';
import type { Band, Figure, Level } from '../../api/boards';
import { lowerBound, type Buckets } from '../series';
import type { Span } from '../time';
import { hasStates, type Seen } from './seen';

export const FIGURES: Figure[] = ['last', 'mean', 'min', 'max', 'count'];

/** A figure of the buckets that begin in the range; null where there are none. Buckets have what it is made of. */
export function figureOf(b: Buckets, figure: Figure, { from, to }: Span): number | null {
  const start = lowerBound(b.t, from);
  const end = lowerBound(b.t, to + 1);
  if (end <= start) return null;
  let count = 0;
  let sum = 0;
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  for (let i = start; i < end; i += 1) {
    count += b.count[i];
    sum += b.mean[i] * b.count[i];
    min = Math.min(min, b.min[i]);
    max = Math.max(max, b.max[i]);
  }
  switch (figure) {
    case 'count': return count;
    case 'mean': return sum / count;
    case 'min': return min;
    case 'max': return max;
    case 'last': return b.last[end - 1];
  }
}

/** The range whose buckets figures are made of. Of a fixed one the hub's first bucket begins before it, and has none of the readings from before it. */
export function counted(span: Span, isFixed: boolean): Span {
  return isFixed ? { from: Number.NEGATIVE_INFINITY, to: span.to } : span;
}

export interface Newest { v: ReadingValue | null; quality?: string | null }

/** The last value: the newest of all where the range goes along with now, else the newest within it; null where there is none. */
export function newestOf({ series, line, track, last }: Pick<Seen, 'series' | 'line' | 'track' | 'last'>, span: Span, isFixed: boolean): Newest | null {
  if (!isFixed) return last ? { v: last.v ?? null, quality: last.quality } : null;
  if (hasStates(series)) {
    const [band] = track.bands.filter(({ from, to }) => from <= span.to && (to === null || to >= span.from)).slice(-1);
    return band === undefined ? null : { v: band.v, quality: band.quality };
  }
  const v = figureOf(line.buckets, 'last', span);
  return v === null ? null : { v };
}

const WORST: Level[] = ['bad', 'warn', 'ok'];

/** What a value means: the worst of the bands that it lies in; null in none. A band has its lower end and not its upper one. */
export function levelOf(value: ReadingValue | null | undefined, bands: Band[]): Level | null {
  if (typeof value !== 'number') return null;
  const inside = bands.filter(({ from, to }) => value >= (from ?? Number.NEGATIVE_INFINITY) && value < (to ?? Number.POSITIVE_INFINITY));
  return WORST.find((level) => inside.some((band) => band.level === level)) ?? null;
}

export interface Cell { row: number; column: number; value: number; from: number }
export interface Heat { rows: string[]; columns: string[]; cells: Cell[]; min: number; max: number }

function heat(rows: string[], columns: string[], cells: Cell[]): Heat {
  const values = cells.map((cell) => cell.value);
  return { rows, columns, cells, min: Math.min(...values), max: Math.max(...values) };
}

/** Where an hour stands: the name of its day, and its number from 0 to 23, by the clock that is shown. */
export type HourOf = (ms: number) => { day: string; hour: number };

/** Days down, hours across; of buckets that are hours of the clock, or parts of them. The span begins with an hour of it. */
export function hourDay(b: Buckets, figure: Figure, span: Span, hourOf: HourOf): Heat {
  const rows: string[] = [];
  const parts = new Map<string, { row: number; column: number; from: number; to: number }>();
  for (let i = lowerBound(b.t, span.from); i < b.t.length && b.t[i] <= span.to; i += 1) {
    const { day, hour } = hourOf(b.t[i]);
    if (rows[rows.length - 1] !== day) rows.push(day);
    const key = `${day} ${hour}`;
    const part = parts.get(key) ?? { row: rows.length - 1, column: hour, from: b.t[i], to: b.t[i] };
    part.to = b.t[i];
    parts.set(key, part);
  }
  const cells = [...parts.values()].flatMap(({ row, column, from, to }) => {
    const value = figureOf(b, figure, { from, to });
    return value === null ? [] : [{ row, column, value, from }];
  });
  return heat(rows, Array.from({ length: 24 }, (_, hour) => String(hour).padStart(2, '0')), cells);
}

/** Series down, `parts` stretches of the range across. */
export function seriesTime(lines: { id: string; buckets: Buckets }[], figure: Figure, span: Span, parts: number, name: (ms: number) => string): Heat {
  const width = (span.to - span.from) / parts;
  const starts = Array.from({ length: parts }, (_, i) => span.from + i * width);
  const cells = lines.flatMap(({ buckets }, row) => starts.flatMap((from, column) => {
    const value = figureOf(buckets, figure, { from: Math.ceil(from), to: Math.ceil(from + width) - 1 });
    return value === null ? [] : [{ row, column, value, from }];
  }));
  return heat(lines.map((line) => line.id), starts.map(name), cells);
}

/** A line of so many by so many units through the means; it breaks where `gap` ms are without a reading. */
export function sparkPath(b: Buckets, { from, to }: Span, width: number, height: number, gap: number): string {
  const start = lowerBound(b.t, from);
  const mean = b.mean.slice(start);
  if (mean.length < 2) return '';
  const min = Math.min(...mean);
  const size = Math.max(...mean) - min || 1;
  return mean.map((value, i) => {
    const t = b.t[start + i];
    const x = ((t - from) / (to - from)) * width;
    const y = height - ((value - min) / size) * height;
    const breaks = i === 0 || t - b.t[start + i - 1] > gap;
    return `${breaks ? 'M' : 'L'}${x.toFixed(1)} ${y.toFixed(1)}`;
  }).join('');
}
