// Why readings were dropped, in words: for gaps and for the sums of the ledger.
import { count } from './format';

const CAUSES: Record<string, string> = {
  quota: 'the spool’s quota was used up',
  expired: 'older than they are to be kept',
  damaged: 'stored, but could not be read back',
  flash: 'the day’s budget of flash writes was used up',
  disk_full: 'the disk was full',
  downsampled: 'thinned out to make room',
  superseded: 'newer ones of the same series took their place',
  unknown: 'the hub was not told why',
};

/** A cause in words; one that a newer hub names stays as it is. */
export function causeText(cause: string): string {
  return CAUSES[cause] ?? cause;
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
