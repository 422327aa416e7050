// Pure: the fleet as rows, what is searched, filtered and sorted of them, and which of them are drawn.
import type { Device } from '../api/client';
import type { FleetTable } from '../api/fleet';

/** Signs of a heartbeat, as the hub writes them. */
export type Beat = 'o' | 'g' | 'a' | 's' | 'x' | '.';

export interface Row {
  id: string;
  title: string;
  agent: string;
  site: string;
  groups: string[];
  /** As `key=value`, or `key` alone. */
  tags: string[];
  firmware: string;
  state: Device['state'] | 'revoked';
  last: number | null;
  rate: number;
  backlog: number;
  produced: number;
  stored: number;
  dropped: number;
  refused: number;
  gaps: number;
  balanced: boolean;
  hours: string;
  minutes: string;
  /** What else a search looks through: profile, model and software. */
  more: string;
}

const tagText = ([key, value]: [string, string]): string => (value === '' ? key : `${key}=${value}`);

const searched = new WeakMap<Row, string>();

/** All that a search looks through, in lower case; made when somebody searches, and not for each row that comes. */
function textOf(row: Row): string {
  const known = searched.get(row);
  if (known !== undefined) return known;
  const text = [row.id, row.title, row.agent, row.site, ...row.groups, ...row.tags, row.firmware, row.more].join('\n').toLowerCase();
  searched.set(row, text);
  return text;
}

/** The rows of the hub's columns. */
export function rowsOf(table: FleetTable): Row[] {
  return table.id.map((id, i) => ({
    id, title: table.title[i], agent: table.agent[i], site: table.site[i], groups: table.groups[i],
    tags: Object.entries(table.tags[i]).map(tagText),
    // What is read by an agent does not run its program.
    firmware: table.firmware[i] || (table.agent[i] === id ? table.software[i] : ''),
    state: table.revoked[i] ? 'revoked' : table.state[i],
    last: table.last_reading_ms[i] ?? null, rate: table.rate[i], backlog: table.backlog[i], produced: table.produced[i],
    stored: table.stored[i], dropped: table.dropped[i], refused: table.refused[i], gaps: table.gaps[i],
    balanced: table.balanced[i], hours: table.hours[i], minutes: table.minutes[i],
    more: `${table.profile[i]}\n${table.model[i]}\n${table.software[i]}`,
  }));
}

/** A row as the live feed tells of its device; its heartbeat comes with the next table. */
export function changedRow(row: Row, device: Device): Row {
  const { ledger } = device;
  return {
    ...row,
    state: device.revoked ? 'revoked' : device.state,
    last: device.last_reading_ms ?? null, rate: device.rate, backlog: device.backlog, produced: ledger.produced, stored: ledger.stored,
    dropped: ledger.dropped, refused: ledger.refused, gaps: ledger.gaps.length, balanced: ledger.balanced,
  };
}

export const FILTERS = ['state', 'site', 'group', 'tag', 'firmware'] as const;
export type FilterName = (typeof FILTERS)[number];
export type Filters = Record<FilterName, string>;

const VALUES: Record<FilterName, (row: Row) => string[]> = {
  state: (row) => [row.state],
  site: (row) => (row.site === '' ? [] : [row.site]),
  group: (row) => row.groups,
  tag: (row) => row.tags,
  firmware: (row) => (row.firmware === '' ? [] : [row.firmware]),
};

/** Whether a row has every word of a text, and what each filter asks for. */
export function fits(row: Row, words: string[], filters: Filters): boolean {
  return words.every((word) => textOf(row).includes(word) || row.state === word)
    && FILTERS.every((name) => filters[name] === '' || VALUES[name](row).includes(filters[name]));
}

/** Values of a filter that there are, sorted, and how many devices have each. */
export function optionsOf(rows: Row[], name: FilterName): [string, number][] {
  const found = new Map<string, number>();
  for (const row of rows) for (const value of VALUES[name](row)) found.set(value, (found.get(value) ?? 0) + 1);
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1));
}

export const COLUMNS = [
  'id', 'site', 'state', 'beats', 'last', 'rate', 'backlog', 'produced', 'stored', 'dropped', 'refused', 'gaps', 'firmware', 'balanced',
] as const;
export type Column = (typeof COLUMNS)[number];
export interface Sort { by: Column; descending: boolean }

const STATE_ORDER: Record<Row['state'], number> = { offline: 0, suspect: 1, flapping: 2, online: 3, never: 4, revoked: 5 };
/** The worse a slot, the more; slots that nobody looked at are of no weight. */
const BEAT_ORDER: Record<string, number> = { x: 4, a: 3, s: 2, g: 1, o: 0, '.': 0 };

/** What rows are sorted by; of figures the greatest come first. */
const KEYS: Record<Column, (row: Row) => number | string> = {
  id: (row) => row.id,
  site: (row) => row.site,
  state: (row) => STATE_ORDER[row.state],
  beats: (row) => -[...row.hours].reduce((sum, sign) => sum + BEAT_ORDER[sign], 0),
  last: (row) => -(row.last ?? 0),
  rate: (row) => -row.rate,
  backlog: (row) => -row.backlog,
  produced: (row) => -row.produced,
  stored: (row) => -row.stored,
  dropped: (row) => -row.dropped,
  refused: (row) => -row.refused,
  gaps: (row) => -row.gaps,
  firmware: (row) => row.firmware,
  balanced: (row) => Number(row.balanced),
};

/** Sorted by a column, and those of one key by their ids. */
export function sorted(rows: Row[], { by, descending }: Sort): Row[] {
  const key = KEYS[by];
  const sign = descending ? -1 : 1;
  // A key is made once for each row, and not for each comparison.
  const keyed = rows.map((row) => ({ row, key: key(row) }));
  keyed.sort((a, b) => {
    if (a.key !== b.key) return a.key < b.key ? -sign : sign;
    return a.row.id < b.row.id ? -1 : 1;
  });
  return keyed.map(({ row }) => row);
}

/** How a sort stands in the address: a minus before what is turned round. */
export function sortText({ by, descending }: Sort): string {
  return (descending ? '-' : '') + by;
}

/** The sort that an address names; by id where it names none. */
export function parseSort(text: string | null): Sort {
  const descending = text?.startsWith('-') ?? false;
  const by = COLUMNS.find((column) => column === text?.slice(descending ? 1 : 0));
  return by === undefined ? { by: 'id', descending: false } : { by, descending };
}

/** Rows drawn above and below what can be seen, so that a turn of the wheel shows no emptiness. */
const OVER = 12;

export interface Window { first: number; end: number; above: number; below: number }

/** Which of `count` rows are drawn, and the room of those that are not, in px. */
export function windowOf(top: number, height: number, row: number, count: number): Window {
  const first = Math.max(0, Math.min(Math.floor(top / row), count) - OVER);
  const end = Math.min(count, Math.ceil((top + height) / row) + OVER);
  return { first, end: Math.max(first, end), above: first * row, below: Math.max(0, count - end) * row };
}

export interface BeatRun { sign: Beat; from: number; length: number }

/** Slots of one sign that stand beside each other. */
export function runs(beats: string): BeatRun[] {
  const all: BeatRun[] = [];
  [...beats].forEach((sign, from) => {
    const last = all.at(-1);
    if (last?.sign === sign) last.length += 1;
    else all.push({ sign: sign as Beat, from, length: 1 });
  });
  return all;
}

/** Upper edge and height of a slot, of 16: the shape tells it without its colour. */
const SHAPES: Record<Beat, [number, number]> = { o: [2, 12], g: [6, 8], a: [12, 2], s: [9, 5], x: [2, 12], '.': [13, 1] };
/** Width of a slot, and of what parts two stretches. */
export const SLOT = 4;
const PART = 0.6;

/** A strip as one path for each sign in it: many rows have one, so that it has few elements. */
export function strip(all: BeatRun[]): [Beat, string][] {
  const paths = new Map<Beat, string>();
  for (const { sign, from, length } of all) {
    const [top, height] = SHAPES[sign];
    const [x, width] = [from * SLOT, length * SLOT - PART];
    paths.set(sign, `${paths.get(sign) ?? ''}M${x} ${top}h${width}v${height}h-${width}z`);
  }
  return [...paths];
}

/** The crosses over slots whose readings were dropped. */
export function crosses(all: BeatRun[]): string {
  const lost = all.filter(({ sign }) => sign === 'x');
  return lost.map(({ from, length }) => `M${from * SLOT} 2L${(from + length) * SLOT - PART} 14`).join('');
}
