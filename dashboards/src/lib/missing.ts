// Why an answer may be incomplete, in words.
import type { Missing } from '../api/client';
import { stamp } from './format';

const CAUSES: Record<Missing['cause'], string> = {
  offline: 'its agent is not connected',
  backlog: 'its agent still holds readings',
  damaged: 'a damaged file is not refilled yet',
};

/** One line for each reason, each said once. */
export function reasons(missing: Missing[]): string {
  const lines = missing.map(({ device, after_ms, cause }) => {
    const since = after_ms === null || after_ms === undefined ? '' : `; complete until ${stamp(after_ms)}`;
    return `${device}: ${CAUSES[cause]}${since}`;
  });
  return [...new Set(lines)].join('\n') || 'Readings of this range may be missing.';
}
