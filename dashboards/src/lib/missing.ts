// Why an answer may be incomplete, in words.
import type { Missing } from '../api/client';
import { texts } from '../texts';
import { stamp } from './format';

const said = texts.honest;

/** One line for each reason, each said once. */
export function reasons(missing: Missing[]): string {
  const lines = missing.map(({ device, after_ms, cause }) => {
    const text = said.missingOf(device, said.missing[cause]);
    return after_ms === null || after_ms === undefined ? text : said.completeUntil(text, stamp(after_ms));
  });
  return [...new Set(lines)].join('\n') || said.maybe;
}
