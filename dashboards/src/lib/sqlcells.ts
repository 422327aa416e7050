// What a table shows of an answer of SQL. Pure. An answer is data: what is read can be written into the next statement.
import type { SqlValue } from '../api/client';
import { NONE } from './format';

/** A value as it is, all digits of it; times in UTC, as statements have them. */
export function cellText(v: SqlValue, type: string): string {
  if (v === null) return NONE;
  if (type === 'timestamp' && typeof v === 'number') return utc(v);
  return Array.isArray(v) ? JSON.stringify(v) : String(v);
}

/** Milliseconds only where there are some. */
function utc(ms: number): string {
  const at = new Date(ms);
  return Number.isNaN(at.getTime()) ? String(ms) : at.toISOString().replace('T', ' ').replace('.000Z', 'Z');
}
