// Where keys move the cursor of a chart, from reading to reading, or from cell to cell of a map. Pure.
import { lowerBound } from './series';

/** So many readings further by the keys of pages. */
const PAGE = 10;

/** The time that a key leads to, from the one where the cursor is (null: nowhere yet); null takes the cursor away, undefined is a key that means nothing here. */
export function timeBy(times: number[], at: number | null, key: string): number | null | undefined {
  if (key === 'Escape') return at === null ? undefined : null;
  const last = times.length - 1;
  const before = at === null ? last : lowerBound(times, at) - 1;
  const after = at === null ? last : lowerBound(times, at + 1);
  const steps: Record<string, number> = {
    ArrowLeft: before, ArrowRight: after, Home: 0, End: last,
    PageUp: at === null ? last : before - PAGE + 1, PageDown: at === null ? last : after + PAGE - 1,
  };
  const next = Object.hasOwn(steps, key) ? steps[key] : undefined;
  if (next === undefined || last < 0) return undefined;
  return times[Math.min(Math.max(next, 0), last)];
}

/** The times at which any of some lines has something within [from, to], in order, each once. */
export function timesOf(lines: { t: number[] }[], from: number, to: number): number[] {
  return [...new Set(lines.flatMap(({ t }) => t.slice(lowerBound(t, from), lowerBound(t, to + 1))))].sort((a, b) => a - b);
}

export interface Place { row: number; column: number }

/** The cell that a key leads to; from nowhere, where the newest of the last row is. */
export function cellBy(at: Place | null, key: string, rows: number, columns: number): Place | null | undefined {
  if (key === 'Escape') return at === null ? undefined : null;
  const from = at ?? { row: rows - 1, column: columns - 1 };
  const steps: Record<string, Place> = {
    ArrowLeft: { ...from, column: from.column - 1 }, ArrowRight: { ...from, column: from.column + 1 },
    ArrowUp: { ...from, row: from.row - 1 }, ArrowDown: { ...from, row: from.row + 1 },
    Home: { ...from, column: 0 }, End: { ...from, column: columns - 1 },
  };
  if (!Object.hasOwn(steps, key) || rows === 0 || columns === 0) return undefined;
  const { row, column } = at === null && key.startsWith('Arrow') ? from : steps[key];
  return { row: Math.min(Math.max(row, 0), rows - 1), column: Math.min(Math.max(column, 0), columns - 1) };
}
