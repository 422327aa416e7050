// Readings that came when newer ones were there, a backlog after an outage mostly: what a chart hatches, and what is said of it.
import type { LateRange } from '../api/client';
import { texts } from '../texts';
import { count, range, span } from './format';

const said = texts.honest.late;

/** A hatched stretch: one range, or several that lie too close to be told apart. */
export interface LateBand {
  from: number;
  to: number;
  rows: number;
  /** How long after its time the latest of them came (ms). */
  delay: number;
  /** The times of all that is counted, also beyond what is shown. */
  whole: { from: number; to: number };
  /** When they came. */
  came: { from: number; to: number };
}

const join = (a: { from: number; to: number }, b: { from: number; to: number }): { from: number; to: number } => (
  { from: Math.min(a.from, b.from), to: Math.max(a.to, b.to) });

/** The late ranges that touch [from, to], cut to it, in order; those closer than `near` ms become one band. */
export function lateBands(late: LateRange[], from: number, to: number, near: number): LateBand[] {
  const inside = late.filter((one) => one.to_ms >= from && one.from_ms <= to).sort((a, b) => a.from_ms - b.from_ms);
  const bands: LateBand[] = [];
  for (const { from_ms, to_ms, rows, delay_ms, came_from_ms, came_to_ms } of inside) {
    const [whole, came] = [{ from: from_ms, to: to_ms }, { from: came_from_ms, to: came_to_ms }];
    const [start, end] = [Math.max(from_ms, from), Math.min(to_ms, to)];
    const last = bands[bands.length - 1];
    if (last && start - last.to <= near) {
      last.to = Math.max(last.to, end);
      last.rows += rows;
      last.delay = Math.max(last.delay, delay_ms);
      last.whole = join(last.whole, whole);
      last.came = join(last.came, came);
    } else {
      bands.push({ from: start, to: end, rows, delay: delay_ms, whole, came });
    }
  }
  return bands;
}

/** A length of which nothing is beyond: "2 h" for all that lasts more than one. */
function upTo(ms: number): string {
  const unit = [86_400_000, 3_600_000, 60_000].find((one) => ms > one) ?? 1000;
  return span(Math.ceil(ms / unit) * unit);
}

/** The text of a band as its hover title. */
export function lateTitle({ rows, delay, whole, came }: LateBand): string {
  return said.title(rows, count(rows), upTo(delay), range(whole.from, whole.to), range(came.from, came.to));
}

/** What came late, device by device: "1,200 of pump-7, up to 2 h". */
export function lateSums(late: LateRange[]): string {
  const sums = new Map<string, { rows: number; delay: number }>();
  for (const { device, rows, delay_ms } of late) {
    const sum = sums.get(device) ?? { rows: 0, delay: 0 };
    sums.set(device, { rows: sum.rows + rows, delay: Math.max(sum.delay, delay_ms) });
  }
  return [...sums].map(([device, { rows, delay }]) => said.of(count(rows), device, upTo(delay))).join('; ');
}
