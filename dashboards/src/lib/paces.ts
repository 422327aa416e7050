// How often series say anything that the range that is shown has too few readings of: without it a meter that is read each quarter of an hour
// would be stale in each range of five minutes.
import { query } from '../api/client';
import type { LastReading } from '../api/last';
import { fromColumns, type Buckets } from './series';
import { paceOf } from './stale';
import type { Span } from './time';

/** How far back it is looked for, and in how many buckets. */
const BACK_MS = 86_400_000;
const BUCKETS = 288;
/** What was found, also that nothing was, is taken for so long. */
const KEPT_MS = 10 * 60_000;

export interface Paced { id: string; buckets: Buckets; last: LastReading | null | undefined }

export class Paces {
  #known = new Map<string, { at: number; pace: number }>();

  /** The distance of a series' readings (ms) as it was found before the range; 0 where it is not known. */
  of(id: string): number {
    return this.#known.get(id)?.pace ?? 0;
  }

  /** Looks for those that the range does not tell, by one question; whether any was found. */
  async learn(series: Paced[], span: Span, now: number, signal: AbortSignal): Promise<boolean> {
    if (span.to - span.from >= BACK_MS) return false;
    const ids = series.filter(({ id, buckets, last }) => {
      const known = this.#known.get(id);
      const isFresh = known !== undefined && performance.now() - known.at < KEPT_MS;
      // Of what said nothing for as long there is nothing to be found.
      return last != null && now - last.t < BACK_MS && paceOf(buckets) === 0 && !isFresh;
    }).map(({ id }) => id);
    if (ids.length === 0) return false;
    const found = new Map<string, number>();
    try {
      const answer = await query(ids, now - BACK_MS, now, BUCKETS, signal);
      for (const columns of answer.series) found.set(columns.id, paceOf(fromColumns(columns)));
    } catch {
      // Without it the range says from when on a value is stale; the next query asks again.
      return false;
    }
    const at = performance.now();
    for (const id of ids) this.#known.set(id, { at, pace: found.get(id) ?? 0 });
    return [...found.values()].some((pace) => pace > 0);
  }
}
