// Pure: which buckets make the hours of a clock. Hours of UTC are those of most clocks; where a clock is ahead by half an hour or a
// quarter, as in India and Nepal, each of its hours is made of parts of two.
import type { Span } from '../time';
import { offsetOf } from '../zoned';

const HOUR = 3_600_000;
/** Hours of a heat map at most, newest last. */
const HOURS_MAX = 90 * 24;
/** So often a clock is looked at: one that is changed by half an hour, as on Lord Howe Island, stays so for months. */
const LOOK = 14 * 24 * HOUR;
/** Parts that an hour has: no clock of our time needs others. */
const PARTS = [1, 2, 4];

/** How far a clock is ahead of UTC, ms; null is the browser's own. */
function ahead(zone: string | null, ms: number): number {
  return zone === null ? -new Date(ms).getTimezoneOffset() * 60_000 : offsetOf(zone, ms);
}

/** When the hour of a clock begins in which a moment is. */
export function hourStart(zone: string | null, ms: number): number {
  const offset = ahead(zone, ms);
  return Math.floor((ms + offset) / HOUR) * HOUR - offset;
}

/** The whole hours of a clock that a span touches, the newest of them, and as many buckets as make none longer than their parts. */
export function hoursOf({ from, to }: Span, zone: string | null): { from: number; to: number; buckets: number } {
  const end = hourStart(zone, to - 1) + HOUR;
  const start = Math.max(hourStart(zone, from), end - HOURS_MAX * HOUR);
  const looks = Array.from({ length: Math.ceil((end - start) / LOOK) + 1 }, (_, i) => Math.min(start + i * LOOK, end));
  const fits = (parts: number): boolean => looks.every((ms) => ahead(zone, ms) % (HOUR / parts) === 0);
  const parts = PARTS.find(fits) ?? PARTS[PARTS.length - 1];
  // One more than there are: the hub's buckets are then of that width, and no wider.
  return { from: start, to: end, buckets: Math.max(2, Math.round((end - start) / HOUR) * parts + 1) };
}
