// What a chart draws: the buckets of one series, live readings merged into
// them, and the split into stretches where readings are missing. Pure.
import type { BucketColumns, QueryGap, Restamped } from '../api/client';

/** Buckets of one series in order of time; all columns have equal length. */
export interface Buckets {
  t: number[];
  min: number[];
  max: number[];
  mean: number[];
  /** The newest value of each. */
  last: number[];
  count: number[];
}

/** What a live reading did to the buckets; `late` ones need a new query. */
export type Merged = 'appended' | 'merged' | 'late';

export function emptyBuckets(): Buckets {
  return { t: [], min: [], max: [], mean: [], last: [], count: [] };
}

/** Takes over a query's columns; a null in them (no finite value) is left out. */
export function fromColumns(columns: BucketColumns): Buckets {
  const out = emptyBuckets();
  for (let i = 0; i < columns.t.length; i += 1) {
    const mean: number | null = columns.mean[i];
    if (mean === null || !Number.isFinite(mean)) continue;
    out.t.push(columns.t[i]);
    out.min.push(columns.min[i] ?? mean);
    out.max.push(columns.max[i] ?? mean);
    out.mean.push(mean);
    out.last.push(columns.last[i] ?? mean);
    out.count.push(columns.count[i] ?? 1);
  }
  return out;
}

/**
 * Merges a live reading into the newest bucket or opens the next one, aligned
 * to multiples of `width` as the hub aligns them. A reading older than the
 * newest bucket changes nothing: only the hub can put it in its place.
 */
export function mergeLive(b: Buckets, width: number, t: number, v: number): Merged {
  if (!Number.isFinite(v)) return 'merged';
  const last = b.t.length - 1;
  if (last >= 0) {
    if (t < b.t[last]) return 'late';
    if (t < b.t[last] + width) {
      const n = b.count[last];
      b.min[last] = Math.min(b.min[last], v);
      b.max[last] = Math.max(b.max[last], v);
      b.mean[last] += (v - b.mean[last]) / (n + 1);
      b.last[last] = v;
      b.count[last] = n + 1;
      return 'merged';
    }
  }
  const start = Math.floor(t / width) * width;
  b.t.push(last >= 0 ? Math.max(start, b.t[last] + 1) : start);
  b.min.push(v);
  b.max.push(v);
  b.mean.push(v);
  b.last.push(v);
  b.count.push(1);
  return 'appended';
}

/** Drops buckets before `from` but the last of them, which draws the line's way in. */
export function trimBefore(b: Buckets, from: number): void {
  const cut = lowerBound(b.t, from) - 1;
  if (cut <= 0) return;
  for (const column of [b.t, b.min, b.max, b.mean, b.last, b.count]) column.splice(0, cut);
}

/** How many buckets start in [from, to]. */
export function countWithin(t: number[], from: number, to: number): number {
  return lowerBound(t, to + 1) - lowerBound(t, from);
}

/** The first index whose value is not below `x`, in ascending values. */
export function lowerBound(values: number[], x: number): number {
  let lo = 0;
  let hi = values.length;
  while (lo < hi) {
    const mid = (lo + hi) >>> 1;
    if (values[mid] < x) lo = mid + 1;
    else hi = mid;
  }
  return lo;
}

/** The median distance of neighbours; 0 with fewer than two times. */
export function medianInterval(t: number[]): number {
  if (t.length < 2) return 0;
  const steps = new Array<number>(t.length - 1);
  for (let i = 1; i < t.length; i += 1) steps[i - 1] = t[i] - t[i - 1];
  steps.sort((a, b) => a - b);
  return steps[steps.length >> 1];
}

/** The longest distance of neighbours; 0 with fewer than two times. */
export function longestInterval(t: number[]): number {
  let longest = 0;
  for (let i = 1; i < t.length; i += 1) longest = Math.max(longest, t[i] - t[i - 1]);
  return longest;
}

/** The distance beyond which a line breaks: readings are missing, not rare. */
export function breakAfter(t: number[], width: number): number {
  return Math.max(3 * medianInterval(t), 2 * width);
}

type Column = (number | null)[];

/** Columns for the chart: a null row stands in each break. */
export interface Drawn {
  x: number[];
  min: Column;
  max: Column;
  mean: Column;
  /** Rows with a break on both sides: no line reaches them, so they need a dot. */
  lonely: number[];
}

/** Splits the buckets where neighbours are further apart than the series' own pace. */
export function splitGaps(b: Buckets, width: number): Drawn {
  const limit = breakAfter(b.t, width);
  const out: Drawn = { x: [], min: [], max: [], mean: [], lonely: [] };
  const n = b.t.length;
  let joined = false;
  for (let i = 0; i < n; i += 1) {
    const breaks = i + 1 < n && b.t[i + 1] - b.t[i] > limit;
    if (!joined && (breaks || i + 1 === n)) out.lonely.push(out.x.length);
    out.x.push(b.t[i]);
    out.min.push(b.min[i]);
    out.max.push(b.max[i]);
    out.mean.push(b.mean[i]);
    joined = !breaks;
    if (breaks) {
      out.x.push((b.t[i] + b.t[i + 1]) / 2);
      out.min.push(null);
      out.max.push(null);
      out.mean.push(null);
    }
  }
  return out;
}

/** A shaded stretch: one gap, or several that lie too close to be told apart. */
export interface Band {
  from: number;
  to: number;
  rows: number;
  causes: string[];
}

/**
 * The gaps that touch [from, to], cut to it, in order; those closer than
 * `near` ms become one band, so that ten thousand gaps stay a few boxes.
 */
export function gapBands(gaps: QueryGap[], from: number, to: number, near: number): Band[] {
  const inside = gaps
    .filter((gap) => gap.to_ms >= from && gap.from_ms <= to)
    .sort((a, b) => a.from_ms - b.from_ms);
  const bands: Band[] = [];
  for (const gap of inside) {
    const start = Math.max(gap.from_ms, from);
    const end = Math.min(gap.to_ms, to);
    const last = bands[bands.length - 1];
    if (last && start - last.to <= near) {
      last.to = Math.max(last.to, end);
      last.rows += gap.rows;
      if (!last.causes.includes(gap.cause)) last.causes.push(gap.cause);
    } else {
      bands.push({ from: start, to: end, rows: gap.rows, causes: [gap.cause] });
    }
  }
  return bands;
}

/** A stretch whose readings' times were corrected, or several drawn as one. */
export interface StampMark {
  from: number;
  to: number;
  /** What was added to the times (ms), each once; null where nobody knows how wrong they are. */
  shifts: (number | null)[];
}

/** The corrected stretches that touch [from, to], cut to it; those closer than `near` ms become one mark. */
export function stampMarks(restamped: Restamped[], from: number, to: number, near: number): StampMark[] {
  const inside = restamped
    .filter((one) => one.to_ms >= from && one.from_ms <= to)
    .sort((a, b) => a.from_ms - b.from_ms);
  const marks: StampMark[] = [];
  for (const { from_ms, to_ms, shift_ms } of inside) {
    const start = Math.max(from_ms, from);
    const end = Math.min(to_ms, to);
    const last = marks[marks.length - 1];
    if (last && start - last.to <= near) {
      last.to = Math.max(last.to, end);
      if (!last.shifts.includes(shift_ms)) last.shifts.push(shift_ms);
    } else {
      marks.push({ from: start, to: end, shifts: [shift_ms] });
    }
  }
  return marks;
}

/**
 * Finds where the data begins when the API tells only buckets: asks for the
 * whole range, starts again at the first filled bucket, and stops when that
 * bucket no longer hides most of the range.
 */
export async function findStart(
  end: number,
  firstBucket: (from: number, to: number) => Promise<number | null>,
): Promise<number | null> {
  let from = 0;
  for (let round = 0; round < 4; round += 1) {
    const first = await firstBucket(from, end);
    if (first === null) return round === 0 ? null : from;
    const span = end - from;
    const moved = first - from;
    from = Math.max(from, Math.min(first, end - 1));
    if (moved < span * 0.5) break;
  }
  return from;
}
