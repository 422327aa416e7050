// What is written on a chart's picture, so that it is as honest without its page as on it. Pure.
import type { Missing } from '../api/client';
import { texts } from '../texts';
import { range, stamp, unit } from './format';
import { reasons } from './missing';
import type { Line } from './overlay';

const said = texts.explore;

/** Of the answer that the chart is made of. */
export interface Truth { asOf: number; partial: boolean; missing: Missing[]; dropped: string[] }
/** What the chart draws besides its lines. */
export interface Drawn { bands: unknown[]; marks: unknown[]; lates: unknown[]; doubts: unknown[]; earlier: { from: number; to: number } | null }

/** A line with the tier that its values are of. */
export function lineText({ id, unit: ucum, tier, earlierTier }: Pick<Line, 'id' | 'unit' | 'tier' | 'earlierTier'>): string {
  const tiers = [tier, ...(earlierTier !== '' && earlierTier !== tier ? [said.earlierTier(earlierTier)] : [])].filter((one) => one !== '').join(', ');
  return [id, unit(ucum), tiers === '' ? '' : `(${tiers})`].filter((part) => part !== '').join(' ');
}

/** A text in lines of so many characters at most, cut between words where it can be. */
export function wrapped(text: string, most: number): string[] {
  const lines: string[] = [];
  let rest = text;
  while (rest.length > most) {
    const at = rest.lastIndexOf(' ', most);
    lines.push(rest.slice(0, at > 0 ? at : most));
    rest = rest.slice(at > 0 ? at + 1 : most);
  }
  return [...lines, rest];
}

/** The lines below the legend; without `truth` for what is no answer of series. */
export function notesOf({ bands, marks, lates, doubts, earlier }: Drawn, truth: Truth | undefined): string[] {
  const notes: string[] = [];
  if (truth) notes.push(texts.honest.asOf.at(stamp(truth.asOf)));
  if (truth?.partial) notes.push(said.incompleteFor(reasons(truth.missing).replaceAll('\n', '; ')));
  if (earlier) notes.push(said.paleIs(range(earlier.from, earlier.to)));
  if (bands.length > 0) notes.push(truth && truth.dropped.length > 0 ? said.dropped(truth.dropped.join(', ')) : said.hatchedIs);
  if (lates.length > 0) notes.push(texts.honest.late.grey);
  if (marks.length > 0) notes.push(said.footIs);
  if (doubts.length > 0) notes.push(said.topIs);
  return notes;
}
