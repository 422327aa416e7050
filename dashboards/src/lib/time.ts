// Which stretch of time the charts of a page show: ranges that end now, ranges
// of two fixed moments, and how one is made of another. Pure.
import { momentOf, shown } from './zoned';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const WEEK = 7 * DAY;

/** The narrowest range that can be zoomed to. */
export const SPAN_MIN_MS = SECOND;
/** The longest range that ends now; `all` goes further. */
export const SPAN_MAX_MS = 20 * 365 * DAY;
/** Where time begins: nothing can be asked for before it. */
const EPOCH = 0;

/** What is chosen: the last so many ms, all that is stored, or from one moment to another. */
export type Range =
  | { kind: 'last'; ms: number }
  | { kind: 'all' }
  | { kind: 'fixed'; from: number; to: number };

export interface Span { from: number; to: number }

/** Whose clock times are written by. */
export const ZONES = ['browser', 'utc', 'site'] as const;
export type Zone = (typeof ZONES)[number];

export const PRESETS = ['5m', '1h', '6h', '24h', '7d', '30d', 'all'] as const;
export const FIRST: Range = { kind: 'last', ms: 5 * MINUTE };

const UNITS: Record<string, number> = { s: SECOND, m: MINUTE, h: HOUR, d: DAY, w: WEEK };

/** A length as `90s`, `15m`, `6h`, `3d` or `2w`; null for what is none, or too long or short to be shown. */
export function parseLength(text: string): number | null {
  const match = /^(\d{1,9})\s*([smhdw])$/.exec(text.trim().toLowerCase());
  if (!match) return null;
  const ms = Number(match[1]) * UNITS[match[2]];
  return ms >= SPAN_MIN_MS && ms <= SPAN_MAX_MS ? ms : null;
}

/** The shortest text that `parseLength` reads as so many ms; a day is `24h`, as people say. */
export function lengthText(ms: number): string {
  const whole = Math.max(SECOND, Math.round(ms / SECOND) * SECOND);
  for (const [letter, size] of [['d', DAY], ['h', HOUR], ['m', MINUTE]] as const) {
    if (whole % size === 0 && whole > (letter === 'd' ? DAY : 0)) return `${whole / size}${letter}`;
  }
  return `${whole / SECOND}s`;
}

/** A relative range or `all` by its name; null for what is neither. */
export function parseRange(text: string): Range | null {
  if (text === 'all') return { kind: 'all' };
  const ms = parseLength(text);
  return ms === null ? null : { kind: 'last', ms };
}

/** The stretch that a range is now; `start` is where the data begins, as far as is known. */
export function spanOf(range: Range, now: number, start: number | null): Span {
  if (range.kind === 'fixed') return { from: range.from, to: range.to };
  if (range.kind === 'last') return { from: now - range.ms, to: now };
  return { from: Math.min(start ?? now - HOUR, now - MINUTE), to: now };
}

/** A range of two moments, in order, and no narrower than what can be shown. */
export function fixed(from: number, to: number): Range {
  const middle = (from + to) / 2;
  const half = Math.max(Math.abs(to - from), SPAN_MIN_MS) / 2;
  return { kind: 'fixed', from: Math.max(EPOCH, Math.floor(middle - half)), to: Math.ceil(middle + half) };
}

/** Whether both show the same. */
export function isSame(a: Range, b: Range): boolean {
  if (a.kind === 'last' && b.kind === 'last') return a.ms === b.ms;
  if (a.kind === 'fixed' && b.kind === 'fixed') return a.from === b.from && a.to === b.to;
  return a.kind === b.kind;
}

/**
 * Half a length earlier (-1) or later (1), so that half of what was seen stays in sight. What would
 * reach beyond now goes along with it again.
 */
export function shift(range: Range, now: number, direction: -1 | 1): Range {
  if (range.kind === 'all') return range;
  const { from, to } = spanOf(range, now, null);
  const by = (direction * (to - from)) / 2;
  if (direction > 0 && to + by >= now) return { kind: 'last', ms: to - from };
  return fixed(Math.max(EPOCH, from + by), Math.max(EPOCH, from + by) + (to - from));
}

/** Twice as long around its middle; what ends now still does. */
export function zoomOut(range: Range, now: number): Range {
  if (range.kind === 'all') return range;
  if (range.kind === 'last') return { kind: 'last', ms: Math.min(range.ms * 2, SPAN_MAX_MS) };
  const length = Math.min(range.to - range.from, SPAN_MAX_MS / 2);
  // Beyond now there is nothing to see: what does not fit there is added before.
  const to = Math.min(range.to + length / 2, Math.max(now, range.to));
  return fixed(Math.max(EPOCH, to - 2 * length), to);
}

/** A range in an address: `range=6h`, or `from=…&to=…`, which are the same moments for every reader. */
export function toParams(range: Range): Record<string, string> {
  if (range.kind === 'all') return { range: 'all' };
  if (range.kind === 'last') return { range: lengthText(range.ms) };
  return { from: new Date(range.from).toISOString(), to: new Date(range.to).toISOString() };
}

/** The range that an address names; null where it names none that can be shown. */
export function fromParams(params: URLSearchParams): Range | null {
  const named = params.get('range');
  if (named !== null) return parseRange(named);
  const [from, to] = [moment(params.get('from')), moment(params.get('to'))];
  return from !== null && to !== null && to > from ? fixed(from, to) : null;
}

function moment(text: string | null): number | null {
  if (text === null) return null;
  const ms = /^\d{1,15}$/.test(text) ? Number(text) : Date.parse(text);
  return Number.isFinite(ms) && ms >= EPOCH ? ms : null;
}

const two = (n: number): string => String(n).padStart(2, '0');

/** A moment as a field for date and time holds it, to the second, by the clock of a zone; null is the browser's. */
export function fieldText(ms: number, zone: string | null): string {
  if (zone !== null) return shown(zone, ms).toISOString().slice(0, 19);
  const d = new Date(ms);
  const date = `${String(d.getFullYear()).padStart(4, '0')}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
  return `${date}T${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
}

/** The moment that such a field names; null where it names none. */
export function parseField(text: string, zone: string | null): number | null {
  const match = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d(?:\.\d{1,3})?)?$/.exec(text.trim());
  if (!match) return null;
  const parts = moment(`${match[1]}T${match[2]}${match[3] ?? ':00'}${zone === null ? '' : 'Z'}`);
  return parts === null || zone === null ? parts : momentOf(zone, parts);
}

/** What such a field names, by another clock; a text that names no moment stays. */
export function inClock(text: string, was: string | null, zone: string | null): string {
  const ms = parseField(text, was);
  return ms === null ? text : fieldText(ms, zone);
}
