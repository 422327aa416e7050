// Readings of numbers that are not good, or have no value. Buckets leave them
// out, so that a chart would not show that they came. Pure.
//
// They are marked where a range is short enough for its raw readings to be asked for
// once; live ones are added. In longer ranges only the newest reading's badge tells:
// the hub has no count of them by bucket, and half of the marks would say that the
// rest is good.
import { texts } from '../texts';
import type { RawAnswer, ReadingValue } from '../api/client';
import { count, NO_VALUE, range } from './format';
import { lowerBound } from './series';

/** Raw readings are asked for in ranges up to this long. */
export const DOUBTS_SPAN_MAX_MS = 15 * 60_000;
/** And only if all series of one query together have no more than this. */
export const DOUBTS_ROWS_MAX = 10_000;
/** Kept of one series; the oldest go first. */
const KEPT_MAX = 5_000;

export interface Doubt {
  t: number;
  /** `uncertain`, `bad`, or that there is no value. */
  what: string;
}

/** What is doubtful of a reading; null when nothing is. */
export function doubtOf(v: ReadingValue | null, quality: string): string | null {
  if (quality !== 'good') return quality;
  return v === null ? NO_VALUE : null;
}

/** The doubtful ones of raw readings by series; null when there are too many readings to know them all. */
export function doubtsOf(answers: RawAnswer[]): Map<string, Doubt[]> | null {
  if (answers.some((answer) => answer.next)) return null;
  const found = new Map<string, Doubt[]>();
  for (const columns of answers.flatMap((answer) => answer.series)) {
    const doubts = found.get(columns.id) ?? [];
    columns.t.forEach((t, i) => {
      const what = doubtOf(columns.v[i] ?? null, columns.quality?.[i] ?? 'good');
      if (what !== null) doubts.push({ t, what });
    });
    found.set(columns.id, doubts);
  }
  return found;
}

/** Those of several series along one time, each told with whose it is. */
export function together(all: Map<string, Doubt[]>): Doubt[] {
  const named = [...all].flatMap(([id, doubts]) => doubts.map(({ t, what }) => ({ t, what: `${what} (${id})` })));
  return named.sort((a, b) => a.t - b.t);
}

/** Whether one of a mark's readings is bad. */
export function isBad(mark: DoubtMark): boolean {
  return [...mark.counts.keys()].some((what) => what === 'bad' || what.startsWith('bad ('));
}

/** Adds one in order of time; the same one twice is one. */
export function addDoubt(doubts: Doubt[], doubt: Doubt): void {
  const at = lowerBound(doubts.map(({ t }) => t), doubt.t);
  for (let i = at; i < doubts.length && doubts[i].t === doubt.t; i += 1) if (doubts[i].what === doubt.what) return;
  doubts.splice(at, 0, doubt);
  if (doubts.length > KEPT_MAX) doubts.splice(0, doubts.length - KEPT_MAX);
}

/** Drops those before `from`. */
export function trimDoubts(doubts: Doubt[], from: number): void {
  const cut = doubts.findIndex(({ t }) => t >= from);
  doubts.splice(0, cut < 0 ? doubts.length : cut);
}

/** A doubtful reading, or several drawn as one. */
export interface DoubtMark {
  from: number;
  to: number;
  /** How many of each. */
  counts: Map<string, number>;
}

/** Those in [from, to]; neighbours closer than `near` ms become one mark. */
export function doubtMarks(doubts: Doubt[], from: number, to: number, near: number): DoubtMark[] {
  const marks: DoubtMark[] = [];
  for (const { t, what } of doubts) {
    if (t < from || t > to) continue;
    const last = marks[marks.length - 1];
    if (last && t - last.to <= near) {
      last.to = t;
      last.counts.set(what, (last.counts.get(what) ?? 0) + 1);
    } else {
      marks.push({ from: t, to: t, counts: new Map([[what, 1]]) });
    }
  }
  return marks;
}

/** The text of a mark as its hover title. */
export function doubtTitle(mark: DoubtMark): string {
  const parts = [...mark.counts].map(([what, n]) => `${count(n)} ${what}`);
  return texts.honest.leftOut(parts.join(', '), range(mark.from, mark.to));
}
