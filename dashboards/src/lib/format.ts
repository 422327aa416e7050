// Numbers, times and units as text. Times are by the clock that was chosen (the browser's, UTC, a site's),
// in a 24-hour form that sorts; numbers group by thousands with a thin space.
import { zone } from './zone.svelte';
import { shown } from './zoned';

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** A dash for "nothing known". */
export const NONE = '–';
/** Digits behind the point that a double has with a power of ten. */
const EXPONENTIAL_MAX = 15;
/** A reading that says there is none: the sensor was asked and had nothing to tell. */
export const NO_VALUE = 'no value';

const two = (n: number): string => String(n).padStart(2, '0');

/** A whole number with its thousands apart: 1234567 → "1 234 567". */
export function count(n: number | null | undefined): string {
  if (n === null || n === undefined || !Number.isFinite(n)) return NONE;
  return Math.round(n)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, '\u202f');
}

/** A rate per second: one decimal below 10, then whole numbers. */
export function rate(n: number): string {
  if (!Number.isFinite(n)) return NONE;
  return n < 9.95 ? n.toFixed(1) : count(n);
}

/** Significant digits of a measured value, and of one that is shortened. */
const DIGITS = 5;
const COMPACT_DIGITS = 4;
const SIZE_DIGITS = 3;

/** A measured value with five significant digits and no trailing noise. */
export function value(n: number | null | undefined): string {
  if (n === null || n === undefined || !Number.isFinite(n)) return NONE;
  if (n === 0) return '0';
  const size = Math.abs(n);
  if (size >= 1e9 || size < 1e-4) return n.toExponential(3);
  if (size >= 10_000) return n < 0 ? `-${count(size)}` : count(size);
  return Number(n.toPrecision(DIGITS)).toString();
}

/** How long ago: "now", "3 s ago", "4 min ago", "2 h ago", "5 d ago"; "never" for null. */
export function ago(then: number | null | undefined, now: number): string {
  if (then === null || then === undefined) return 'never';
  const age = now - then;
  // A reading ahead of the clock by more than jitter is worth seeing as such.
  if (age < -5 * SECOND_MS) return `${span(-age)} ahead`;
  if (age < SECOND_MS) return 'now';
  return `${span(age)} ago`;
}

/** A length of time in its largest whole unit. */
export function span(ms: number): string {
  if (ms < MINUTE_MS) return `${Math.floor(ms / SECOND_MS)} s`;
  if (ms < HOUR_MS) return `${Math.floor(ms / MINUTE_MS)} min`;
  if (ms < DAY_MS) return `${Math.floor(ms / HOUR_MS)} h`;
  return `${Math.floor(ms / DAY_MS)} d`;
}

interface Parts { year: number; month: number; day: number; hours: number; minutes: number; seconds: number }

/** What the clock and the calendar of the chosen zone say. */
function partsOf(ms: number): Parts {
  const { iana } = zone;
  if (iana !== null) {
    const d = shown(iana, ms);
    return {
      year: d.getUTCFullYear(), month: d.getUTCMonth(), day: d.getUTCDate(),
      hours: d.getUTCHours(), minutes: d.getUTCMinutes(), seconds: d.getUTCSeconds(),
    };
  }
  const d = new Date(ms);
  return {
    year: d.getFullYear(), month: d.getMonth(), day: d.getDate(),
    hours: d.getHours(), minutes: d.getMinutes(), seconds: d.getSeconds(),
  };
}

/** "14:05:09" */
export function clock(ms: number): string {
  const { hours, minutes, seconds } = partsOf(ms);
  return `${two(hours)}:${two(minutes)}:${two(seconds)}`;
}

/** "2026-11-21" */
export function day(ms: number): string {
  const { year, month, day: date } = partsOf(ms);
  return `${year}-${two(month + 1)}-${two(date)}`;
}

/** "2026-11-21 14:05:09" */
export function stamp(ms: number): string {
  return `${day(ms)} ${clock(ms)}`;
}

/** A range, with the second day only where it differs. */
export function range(from: number, to: number): string {
  const end = day(from) === day(to) ? clock(to) : stamp(to);
  return `${stamp(from)} – ${end}`;
}

/** The labels of a time axis whose marks are `step` ms apart. */
export function axisTime(ms: number, step: number): string {
  const { year, month, day: date, hours, minutes, seconds } = partsOf(ms);
  if (step >= 28 * DAY_MS) return `${MONTHS[month]} ${year}`;
  if (step >= DAY_MS || (hours === 0 && minutes === 0 && seconds === 0)) return `${date} ${MONTHS[month]}`;
  const hm = `${two(hours)}:${two(minutes)}`;
  return step >= MINUTE_MS ? hm : `${hm}:${two(seconds)}`;
}

/** What is written otherwise than in UCUM, in this order: a later one sees what earlier ones have made. */
const WRITTEN: [RegExp, string][] = [
  [/V\.A\{reactive\}/g, 'var'],
  [/dB\{mW\}/g, 'dBm'],
  // Other annotations say nothing that the point's name does not.
  [/\{[^}]*\}/g, ''],
  [/^1$/g, ''],
  [/^\/s$/g, '1/s'],
  [/V\.A/g, 'VA'],
  [/(W|VA|var|\bA|mA|kA)\.h\b/g, '$1h'],
  [/\[degF\]/g, '°F'],
  [/\bCel\b/g, '°C'],
  [/\bdeg\b/g, '°'],
  // As [kn_i], [ft_i] and [gal_us]: which of them it is says the name too.
  [/\[([A-Za-z]+)(?:_[a-z]+)?\]/g, '$1'],
  [/\b((?:[kMGT]i?|Ki)?)By\b/g, '$1B'],
  [/\b([kMm]?)Ohm\b/g, '$1Ω'],
  [/\bu(?=(?:[gmsSVAWFHlL]|mol)\b)/g, 'µ'],
  [/(?<=[A-Za-z])2\b/g, '²'],
  [/(?<=[A-Za-z])3\b/g, '³'],
  [/\./g, '·'],
];

const written = new Map<string, string>();

/** A UCUM unit as people write it. */
export function unit(ucum: string): string {
  let text = written.get(ucum);
  if (text === undefined) {
    text = WRITTEN.reduce((now, [from, to]) => now.replace(from, to), ucum);
    written.set(ucum, text);
  }
  return text;
}

// Units that take decimal prefixes; the others are read as they are.
const PREFIXED = new Set(['By', 'By/s', 'B', 'B/s', 'bit/s', 'Hz', 'W', 'VA', 'V.A', 'V.A{reactive}', 'W.h', 'V.A.h', 'V.A{reactive}.h', 'J']);
const PREFIXES: [number, string][] = [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']];

/** As it is written with so many digits: what is rounded up to a thousand takes the next prefix. */
const rounded = (size: number, digits: number): number => Number(size.toPrecision(digits));

function prefix(size: number, ucum: string): [number, string] {
  const found = PREFIXED.has(ucum) ? PREFIXES.find(([factor]) => rounded(size, DIGITS) >= factor) : undefined;
  return found ?? [1, ''];
}

/** A measured value with its unit: 217565000000 By → "217.57" "GB". */
export function quantity(n: number | null | undefined, ucum: string): [string, string] {
  const [factor, letter] = prefix(Math.abs(n ?? 0), ucum);
  return [value(n === null || n === undefined ? n : n / factor), letter + unit(ucum)];
}

const LETTERS: [number, string][] = [[1e18, 'E'], [1e15, 'P'], ...PREFIXES];

/** A long number in few digits, with a letter for its thousands; the whole of it belongs beside it, as a hover text. */
export function compact(n: number): string {
  return lettered(n, COMPACT_DIGITS).trim();
}

/** In so many digits, with a space before the letter or what comes after it. */
function lettered(n: number, digits: number): string {
  const [factor, letter] = LETTERS.find(([from]) => rounded(Math.abs(n), digits) >= from) ?? [1, ''];
  return `${rounded(n / factor, digits)} ${letter}`;
}

/** Bytes in three digits: "34.2 GB", as nobody reads the fifth of a disk's. */
export function size(n: number | null | undefined): string {
  if (n === null || n === undefined || !Number.isFinite(n)) return NONE;
  return `${lettered(n, SIZE_DIGITS)}B`;
}

/** Whole seconds that are no length of time that a machine measures, but a moment: those since 1970, from 2001 to 2286. */
const MOMENT_S: [number, number] = [1e9, 1e10];

function isMoment(n: number, ucum: string): boolean {
  return ucum === 's' && n >= MOMENT_S[0] && n < MOMENT_S[1];
}

/** An integer with its unit: every digit of it, but where the unit takes a prefix as other quantities do. */
function whole(n: number, ucum: string): [string, string] {
  if (isMoment(n, ucum)) return [stamp(n * 1000), ''];
  return prefix(Math.abs(n), ucum)[0] === 1 ? [count(n), unit(ucum)] : quantity(n, ucum);
}

/** A state as text; an empty text can be seen as one. */
export function stateText(v: number | boolean | string | null): string {
  if (v === null) return NO_VALUE;
  return v === '' ? '""' : String(v);
}

/** A reading's value with its unit, by the type of its series; undefined is no reading at all. */
export function shownValue(v: number | boolean | string | null | undefined, ucum: string, type = 'float'): [string, string] {
  if (v === undefined) return [NONE, ''];
  if (typeof v !== 'number') return [stateText(v), ''];
  return type === 'int' ? whole(v, ucum) : quantity(v, ucum);
}

/** The labels of a value axis whose marks are `step` apart: all with the same decimals and prefix. */
export function axisValues(marks: number[], step: number, ucum: string): string[] {
  const [factor, letter] = prefix(Math.max(...marks.map(Math.abs), 0), ucum);
  // Nothing is nothing of whatever prefix.
  return marks.map((n) => (n === 0 && letter !== '' ? '0' : axisValue(n / factor, step / factor) + letter));
}

/** The power of ten of a step, and whether one digit more tells its marks apart: steps are 1, 2, 2.5 and 5 times a power of ten. */
function stepOf(step: number): { power: number; more: number } {
  const power = Math.floor(Math.log10(step) + 1e-9);
  const lead = step / 10 ** power;
  return { power, more: Math.abs(lead - Math.round(lead)) > 1e-6 ? 1 : 0 };
}

/** Decimals that tell marks apart which are `step` apart. */
function decimalsOf(step: number): number {
  const { power, more } = stepOf(step);
  return Math.max(0, more - power);
}

/** As many digits as tell marks apart which are `step` apart, with a power of ten. */
function scientific(n: number, step: number): string {
  if (n === 0) return '0';
  const { power, more } = stepOf(step);
  const digits = Math.floor(Math.log10(Math.abs(n)) + 1e-9) - power + more;
  return n.toExponential(Math.min(Math.max(digits, 1), EXPONENTIAL_MAX));
}

/** A label of a value axis whose marks are `step` apart: all with the same decimals. */
export function axisValue(n: number, step: number): string {
  const size = Math.abs(n);
  if (step >= 1e9 || step < 1e-6) return scientific(n, step);
  if (size >= 1e6 && step >= 1e4) return `${Number((n / 1e6).toFixed(decimalsOf(step / 1e6)))}M`;
  return n.toFixed(decimalsOf(step));
}
