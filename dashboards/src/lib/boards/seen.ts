// One series of a board: what is known of it, and how live readings are laid into it. Pure but for its questions.
import { rawRows, type LiveReadings, type Series } from '../../api/client';
import { newer } from '../../api/last';
import type { Line } from '../overlay';
import { emptyBuckets, mergeLive, trimBefore, type Buckets } from '../series';
import { appendLive, emptyTrack, loadTrack, STATE_ROWS_MAX, trimStates, type Track } from '../states';
import type { Span } from '../time';

/** Changed in place; `Shown.version` tells when. */
export interface Seen { series: Series; line: Line; track: Track; hours: Buckets | null; last: Series['last'] }

export const hasStates = (series: Series): boolean => series.type === 'bool' || series.type === 'text';

export function makeSeen(series: Series): Seen {
  const whole = series.type === 'int' || series.type === 'bool';
  const line = { id: series.id, unit: series.unit, whole, buckets: emptyBuckets(), tier: '', earlier: null, earlierTier: '' };
  return { series, line, track: emptyTrack(), hours: null, last: series.last };
}

/** Lays live readings into what is shown of [from, to] in buckets of `width`; whether only a new query can place one of them. */
export function layReadings(one: Seen, { t, v, quality }: LiveReadings['series'][number], { from, to }: Span, width: number): boolean {
  let late = false;
  t.forEach((at, i) => {
    const value = v[i] ?? null;
    const how = quality?.[i] ?? 'good';
    one.last = newer(one.last, how === 'good' ? { t: at, v: value } : { t: at, v: value, quality: how });
    if (at < from || at > to) return;
    if (hasStates(one.series)) late = appendLive(one.track, { t: at, v: value, quality: how }) === 'late' || late;
    const number = typeof value === 'boolean' ? Number(value) : value;
    // Buckets are of numbers of good quality, as the hub has it.
    if (typeof number === 'number' && how === 'good') late = mergeLive(one.line.buckets, width, at, number) === 'late' || late;
  });
  return late;
}

export function trimSeen(one: Seen, from: number): void {
  trimBefore(one.line.buckets, from);
  trimStates(one.track, from);
}

/** The states of a series over a range. */
export function trackOf(id: string, { from, to }: Span, signal: AbortSignal): Promise<Track> {
  return loadTrack(from, to, async (start, end) => {
    const answer = await rawRows([id], start, end, STATE_ROWS_MAX, signal);
    const rows = answer.series.flatMap(({ t, v, quality }) => t.map((at, i) => ({ t: at, v: v[i] ?? null, quality: quality?.[i] ?? 'good' })));
    return { rows, more: Boolean(answer.next) };
  });
}
