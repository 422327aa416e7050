// Pure: commands of all devices: what is asked for, what events and newer answers make of a list, and whom a command is for.
import type { Command, CommandPhase } from '../api/commands';
import type { CommandEvent } from '../api/client';
import { isFinal } from './commands';
import { FILTERS, fits, type Filters, type Row } from './fleettable';

export const STATES: CommandPhase[] = ['queued', 'delivered', 'running', 'succeeded', 'failed', 'cancelled', 'expired'];
export const SINCES = ['', '1h', '24h', '7d', '30d'] as const;

/** What stands in the address, and what the hub calls it; `since` is a length of time. */
export const ASKED = ['state', 'kind', 'device', 'author', 'correlation', 'since'] as const;
export type Asked = Partial<Record<(typeof ASKED)[number], string>>;

/** What an address asks for. */
export function askedOf(params: URLSearchParams): Asked {
  const all: Asked = {};
  for (const name of ASKED) {
    const value = params.get(name)?.trim();
    if (value) all[name] = value;
  }
  if (all.since !== undefined && !SINCES.some((one) => one === all.since)) delete all.since;
  return all;
}

/** The same for the hub. */
export function paramsOf({ since, ...rest }: Asked): Record<string, string> {
  return { ...rest, ...(since === undefined ? {} : { from: `-${since}` }) };
}

/** The list with what an event tells, and whether it has that command at all. */
export function withEvent(all: Command[], event: CommandEvent): { all: Command[]; known: boolean } {
  const at = all.findIndex(({ id }) => id === event.id);
  // Events may be older than what was asked for since.
  if (at < 0 || all[at].changed_ms > event.time_ms) return { all, known: at >= 0 };
  const next = [...all];
  next[at] = { ...all[at], state: event.state, attempt: event.attempt, percent: event.percent, changed_ms: event.time_ms };
  return { all: next, known: true };
}

/** A newer answer to the first page, and what is older than it as far as both meet; without that there may be others between. */
export function withHead(all: Command[], head: Command[], hasMore: boolean): { all: Command[]; meets: boolean } {
  if (!hasMore) return { all: head, meets: false };
  const last = head.at(-1);
  // The hub looked at many, and none of them fits.
  if (last === undefined) return { all, meets: true };
  // Ids begin with the time.
  if (all.length === 0 || all[0].id < last.id) return { all: head, meets: false };
  return { all: [...head, ...all.filter(({ id }) => id < last.id)], meets: true };
}

/** How many are in each state, those that there are. */
export function countsOf(all: Command[]): [CommandPhase, number][] {
  return STATES.map((state): [CommandPhase, number] => [state, all.filter((one) => one.state === state).length]).filter(([, n]) => n > 0);
}

/** Whether an event is reason to ask for its command: what came of it is not in it. */
export function asksFor(event: CommandEvent, known: boolean, asked: Asked): boolean {
  return known ? isFinal(event.state) : fitsState(event.state, asked) && isNamed(asked.device, event.device) && isNamed(asked.kind, event.kind);
}

const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');

/** Whether one of some names, with commas and with `*` for any text, is that of a thing; all are where there is none. */
function isNamed(names: string | undefined, name: string): boolean {
  const all = names?.split(',').map((one) => one.trim()).filter((one) => one !== '') ?? [];
  return all.length === 0 || all.some((one) => new RegExp(`^${one.split('*').map(escaped).join('.*')}$`, 's').test(name));
}

function fitsState(state: CommandPhase, asked: Asked): boolean {
  return asked.state === undefined || asked.state === state || (asked.state === 'open' && !isFinal(state));
}

const HOUR_MS = 3_600_000;
const LENGTHS: Record<(typeof SINCES)[number], number> = { '': Number.POSITIVE_INFINITY, '1h': HOUR_MS, '24h': 24 * HOUR_MS, '7d': 168 * HOUR_MS, '30d': 720 * HOUR_MS };

/** Whether a command is one of those that are asked for. */
export function isAsked(one: Command, asked: Asked, now: number): boolean {
  const since = SINCES.find((name) => name === asked.since) ?? '';
  return fitsState(one.state, asked) && isNamed(asked.device, one.device) && isNamed(asked.kind, one.kind) && isNamed(asked.author, one.author)
    && (asked.correlation === undefined || asked.correlation === one.correlation_id) && one.created_ms >= now - LENGTHS[since];
}

/** The list with commands as they are now, each in its place; what is not asked for any more is gone. Below `end` the list is not known. */
export function withCommands(all: Command[], found: Command[], end: string | null, isWanted: (one: Command) => boolean): Command[] {
  // Events of one command may have been reason to ask for it twice; the later answer holds.
  const now = new Map(found.map((one) => [one.id, one]));
  const next = [...all.filter(({ id }) => !now.has(id)), ...[...now.values()].filter((one) => isWanted(one) && (end === null || one.id >= end))];
  // Ids begin with the time.
  return next.sort((a, b) => (a.id < b.id ? 1 : -1));
}

export const WHOSE = ['agents', 'behind', 'all'] as const;
export type Whose = (typeof WHOSE)[number];
export const NO_FILTERS: Filters = { state: '', site: '', group: '', tag: '', firmware: '' };

export interface Targets { ids: string[]; revoked: number }

/** The devices that are meant, and how many more would be that were shut out. */
export function targetsOf(rows: Row[], whose: Whose, text: string, filters: Filters): Targets {
  const words = text.toLowerCase().split(/\s+/).filter((word) => word !== '');
  const any = words.length > 0 || FILTERS.some((name) => filters[name] !== '');
  const meant = rows.filter((row) => (whose === 'all' || (row.agent === row.id) === (whose === 'agents')) && (!any || fits(row, words, filters)));
  const ids = meant.filter(({ state }) => state !== 'revoked').map(({ id }) => id);
  return { ids, revoked: meant.length - ids.length };
}

/** In parts of so many. */
export function parts<T>(all: T[], most: number): T[][] {
  return Array.from({ length: Math.ceil(all.length / most) }, (_, i) => all.slice(i * most, (i + 1) * most));
}
