// Why readings were dropped, in words: for gaps and for the sums of the ledger.
import { texts } from '../texts';
import { count } from './format';

/** A cause in words; one that a newer hub names stays as it is. */
export function causeText(cause: string): string {
  return texts.honest.dropped[cause] ?? cause;
}

/** The causes of one gap or of several drawn as one. */
export function causesText(causes: string[]): string {
  return causes.map(causeText).join('; ');
}

/** What was dropped by cause, the most first: "40: the disk was full". */
export function droppedBy(sums: Record<string, number>): string[] {
  const some = Object.entries(sums).filter(([, rows]) => rows > 0);
  return some.sort((a, b) => b[1] - a[1]).map(([cause, rows]) => `${count(rows)}: ${causeText(cause)}`);
}
