// The bands of a panel in words, and their ends as lines with labels: told without their colours. Pure.
import type { Band, Level } from '../../api/boards';
import { quantity } from '../format';
import { texts } from '../../texts';

const said = texts.boards.limits;
const WORST: Level[] = ['bad', 'warn', 'ok'];

/** An end of bands: where it is, what it is an end of, and how bad the worst of them is. */
export interface Limit { at: number; level: Level; text: string }

const shown = (n: number, ucum: string): string => quantity(n, ucum).join(' ').trim();

/** The ends of bands in order, those that several share once. */
export function limitsOf(bands: Band[], ucum: string): Limit[] {
  const ends = [...new Set(bands.flatMap(({ from, to }) => [from, to]).filter((end) => end !== null && end !== undefined))].sort((a, b) => a - b);
  return ends.map((at) => {
    const above = bands.filter(({ from }) => from === at).map(({ level }) => level);
    const below = bands.filter(({ to }) => to === at).map(({ level }) => level);
    const parts = [...above.map((level) => said.above(texts.boards.levels[level])), ...below.map((level) => said.below(texts.boards.levels[level]))];
    const level = WORST.find((one) => above.includes(one) || below.includes(one)) ?? 'ok';
    return { at, level, text: said.line(shown(at, ucum), [...new Set(parts)].join(', ')) };
  });
}

/** What a band is of, without what it means. */
export function bandText({ from, to }: Band, ucum: string): string {
  const [low, high] = [from ?? null, to ?? null];
  if (low === null) return high === null ? said.all : said.under(shown(high, ucum));
  return high === null ? said.from(shown(low, ucum)) : said.between(shown(low, ucum), shown(high, ucum));
}

/** Places (px, in order) moved down as far as needed so that none is closer to the one before it than `apart`, and none is beyond `end`. */
export function spread(places: number[], apart: number, end: number): number[] {
  const out: number[] = [];
  for (const place of places) out.push(Math.max(place, (out[out.length - 1] ?? Number.NEGATIVE_INFINITY) + apart));
  for (let i = out.length - 1, most = end; i >= 0; i -= 1, most -= apart) out[i] = Math.min(out[i], most);
  return out;
}
