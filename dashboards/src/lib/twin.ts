// What a twin's JSON says as rows of a table, and what is typed as a patch of it.
import { texts } from '../texts';
import { changedNumber } from './numbers';

/** Forms of values that merge, as the API shows them: one member, whose name begins with a dollar. */
function form(value: unknown): [string, unknown] | null {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
  const members = Object.entries(value);
  const [first] = members;
  return members.length === 1 && first !== undefined && first[0].startsWith('$') ? first : null;
}

/** A leaf's value as people read it: a counter is its number, a set its elements, a text itself. */
export function shown(value: unknown): string {
  const merging = form(value);
  if (merging !== null) {
    const [, inner] = merging;
    return Array.isArray(inner) ? `{${inner.map((one) => JSON.stringify(one)).join(', ')}}` : String(inner);
  }
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** The leaves below a section's JSON by their paths, escaped as in a JSON pointer. */
export function leaves(section: unknown, above = ''): Map<string, unknown> {
  const found = new Map<string, unknown>();
  if (typeof section !== 'object' || section === null || Array.isArray(section)) return found;
  for (const [name, value] of Object.entries(section)) {
    const path = above + name.replaceAll('~', '~0').replaceAll('/', '~1');
    const nested = typeof value === 'object' && value !== null && !Array.isArray(value) && form(value) === null;
    if (nested && Object.keys(value).length > 0) for (const [key, leaf] of leaves(value, `${path}/`)) found.set(key, leaf);
    else found.set(path, value);
  }
  return found;
}

export interface Row {
  key: string;
  desired: string | null;
  reported: string | null;
  /** Wanted and not so since then, Unix ms; null when it is as wanted, or nothing is wanted. */
  since: number | null;
  differs: boolean;
}

/** What an agent tells for the hub to check its configuration by; nobody reads it, and it is longer than all the rest. */
const SCHEMA = 'config_schema/';

/** What is wanted and what is, side by side, what differs first. */
export function rows(
  desired: unknown,
  reported: unknown,
  delta: { key: string; since_ms: number | null }[],
): Row[] {
  const wanted = leaves(desired);
  const is = new Map([...leaves(reported)].filter(([key]) => !key.startsWith(SCHEMA)));
  const since = new Map(delta.map((one) => [one.key, one.since_ms]));
  const keys = [...new Set([...wanted.keys(), ...is.keys()])].sort();
  const all = keys.map((key) => ({
    key,
    desired: wanted.has(key) ? shown(wanted.get(key)) : null,
    reported: is.has(key) ? shown(is.get(key)) : null,
    since: since.get(key) ?? null,
    differs: since.has(key),
  }));
  return [...all.filter((row) => row.differs), ...all.filter((row) => !row.differs)];
}

export interface Behind {
  /** The device that tells it; null where no device tells of the point. */
  device: string | null;
  key: string;
  desired: string;
  reported: string | null;
  /** How far it is with it, and why it is no further. */
  state: string;
}

/** The points that a site's or a group's document wants and that are not so, by device. */
export function behind(
  delta: { key: string; desired: unknown; reported?: unknown; device?: string | null; state?: string | null; reason?: string | null }[],
): Behind[] {
  return delta.filter((one) => one.key.startsWith('points/')).map((one) => ({
    device: one.device ?? null,
    key: one.key.slice('points/'.length),
    desired: shown(one.desired),
    reported: one.reported === null || one.reported === undefined ? null : shown(one.reported),
    state: [one.state, one.reason].filter(Boolean).join(': '),
  }));
}

/** Names that a document can have; operators may call sites and groups otherwise, and these have none. */
const NAMED = /^[\w.-]{1,64}$/;

/** The documents that a device shares with others: its site's, and those of its groups. */
export function sharedBy(site: string | null | undefined, groups: string[] | undefined): string[] {
  const all = [...(site ? [['site', site]] : []), ...(groups ?? []).map((group) => ['group', group])];
  return all.filter(([, name]) => NAMED.test(name ?? '')).map(([kind, name]) => `${kind}/${name}`);
}

/** What was typed: JSON, or else a text. It fails for a number that would be sent as another one. */
export function typed(text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text) as unknown;
  } catch {
    return text;
  }
  const changed = changedNumber(text);
  if (changed !== null) throw new Error(texts.twin.otherNumber(changed.typed, changed.sent));
  return value;
}

/** The names of a leaf's path. */
function names(key: string): string[] {
  return key.split('/').map((name) => name.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/** The merge patch that sets one leaf; null takes it away. */
export function patchOf(key: string, value: unknown): Record<string, unknown> {
  return names(key).reduceRight<unknown>((inner, name) => ({ [name]: inner }), value) as Record<string, unknown>;
}

/** The same of a value that is JSON already: numbers of a browser have fewer digits, and no kind. */
export function patchText(key: string, json: string): string {
  return names(key).reduceRight((inner, name) => `{${JSON.stringify(name)}:${inner}}`, json);
}

/** A value of a conflict as people read it, with all digits of a number. */
export function shownExactly(one: { value: unknown; json: string }): string {
  const digits = typeof one.value === 'number' ? one.json : /^\{"\$counter":(-?\d+)\}$/.exec(one.json)?.[1];
  return digits ?? shown(one.value);
}
