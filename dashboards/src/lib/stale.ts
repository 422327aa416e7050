// From which age on a newest value is no longer how it is now. Pure.
import { medianInterval, type Buckets } from './series';
import type { Span } from './time';

/** So many readings that did not come make a value stale. */
const STALE_READINGS = 3;
/** No value is stale before this (ms), nor live after that. */
const STALE_MIN_MS = 60_000;
const STALE_MAX_MS = 3 * 86_400_000;

const bound = (ms: number): number => Math.min(Math.max(ms, STALE_MIN_MS), STALE_MAX_MS);

/** The distance of readings (ms) by their buckets; 0 where there are too few for one. */
export function paceOf(b: Buckets): number {
  const each = [...b.count].sort((one, other) => one - other)[b.count.length >> 1] ?? 1;
  return medianInterval(b.t) / Math.max(1, each);
}

/**
 * The age (ms) from which on a series' newest value is stale, by its own pace in the buckets; with too few of them for one by that which
 * is `known` of before the range, and else the range that is shown, since within it there may be no more than one.
 */
export function staleAfter(b: Buckets, { from, to }: Span, known = 0): number {
  const pace = paceOf(b) || known;
  return bound(pace > 0 ? STALE_READINGS * pace : to - from);
}

/** The same of states by the pace of their readings; null where they come as the state changes, since then silence means that it lasts. */
export function stateStaleAfter({ pace }: { pace: number }): number | null {
  return pace > 0 ? bound(STALE_READINGS * pace) : null;
}
