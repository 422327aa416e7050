// The newest reading of each of many series, by one question.
import { getJson, type Series } from './client';
import type { components } from './types';

export type LastReading = NonNullable<Series['last']>;
/** By series; those without a reading are left out. */
export type Lasts = Map<string, LastReading>;

export async function lastReadings(ids: string[], signal?: AbortSignal): Promise<Lasts> {
  if (ids.length === 0) return new Map();
  const params = new URLSearchParams({ series: ids.join(','), limit: String(ids.length) });
  const { series } = await getJson<components['schemas']['LastPage']>(`/last?${params.toString()}`, signal);
  return new Map(series.map(({ id, t, v, quality }) => [id, { t, v, ...(quality == null ? {} : { quality }) }]));
}

/** Of two, the one that is newer by its own time; of one time, the second. */
export function newer(one: LastReading | null | undefined, other: LastReading | null | undefined): LastReading | null {
  if (one == null || other == null) return one ?? other ?? null;
  return other.t >= one.t ? other : one;
}
