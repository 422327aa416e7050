// The one place that knows the hub's HTTP API: typed calls, problem details,
// and the offset between the hub's clock and this browser's.
import type { components } from './types';
import { forgetEarly, SESSION, takeEarly } from '../lib/early';
import { BASE, wayTo } from './way';

type Schemas = components['schemas'];
export type Device = Schemas['Device'];
export type Ledger = Schemas['Ledger'];
export type Uplink = Schemas['Uplink'];
export type DeviceEvents = Schemas['DeviceEvents'];
export type Twin = Schemas['TwinAnswer'];
export type TwinConflict = Schemas['TwinConflict'];
export type TwinStep = Schemas['TwinStep'];
export type CommandEvent = Schemas['CommandEvent'];
export type TwinEvent = Schemas['TwinEvent'];
export type Series = Schemas['Series'];
export type ReadingValue = Schemas['ReadingValue'];
export type Session = Schemas['Session'];
export type QueryAnswer = Schemas['QueryAnswer'];
export type RawAnswer = Schemas['RawAnswer'];
export type RawColumns = Schemas['RawColumns'];
export type BucketColumns = Schemas['BucketColumns'];
export type Missing = Schemas['Missing'];
export type QueryGap = Schemas['QueryGap'];
export type LateRange = Schemas['LateRange'];
export type Restamped = Schemas['Restamped'];
export type LiveReadings = Schemas['LiveReadings'];
export type AggregateAnswer = Schemas['AggregateAnswer'];
export type SqlColumn = Schemas['SqlColumn'];

/** Rows asked for in one page of a list. */
const PAGE_LIMIT = 500;
/** Pages followed before giving up, so that a bad cursor cannot loop for ever. */
const PAGES_MAX = 100;
/** Series asked for in one query, so that the address stays short. */
export const QUERY_SERIES_MAX = 24;
/** Differences below this are noise: the Date header counts whole seconds. */
const CLOCK_NOISE_MS = 2000;

/** An answer of the hub that is not a success; status 0 is "no answer at all". */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

let clockOffsetMs = 0;
let onSignedOut: () => void = () => {};

/** The hub's time as well as this browser can tell, Unix ms. */
export function hubNow(): number {
  return Date.now() + clockOffsetMs;
}

/** Sets what to do when the session has ended (any 401 but that of a sign-in). */
export function whenSignedOut(handler: () => void): void {
  onSignedOut = handler;
}

function noteClock(response: Response): void {
  const date = Date.parse(response.headers.get('date') ?? '');
  if (Number.isNaN(date)) return;
  // The header is cut to whole seconds: half a second is the best guess of the rest.
  const offset = date + 500 - Date.now();
  clockOffsetMs = Math.abs(offset) > CLOCK_NOISE_MS ? offset : 0;
}

async function problem(response: Response): Promise<ApiError> {
  let code = 'http-error';
  let message = `The hub answered ${response.status}.`;
  try {
    const body = (await response.json()) as Partial<Schemas['Problem']>;
    code = body.code ?? code;
    message = body.detail ?? body.title ?? message;
  } catch {
    // The body is no problem document (a proxy's page, say): the status has to do.
  }
  return new ApiError(response.status, code, message);
}

/** Asks the hub; whatever is no success is an `ApiError`. */
export async function call(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  const { address, headers } = wayTo(path);
  try {
    const early = init.method === undefined ? takeEarly(path) : null;
    response = await (early ?? fetch(address, { credentials: 'same-origin', cache: 'no-store', ...init, headers: { ...init.headers, ...headers } }));
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError(0, 'unreachable', 'The hub cannot be reached.');
  }
  noteClock(response);
  if (response.ok) return response;
  if (response.status === 401 && !(path === SESSION && init.method === 'POST')) onSignedOut();
  throw await problem(response);
}

export async function getJson<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await (await call(path, { signal })).json()) as T;
}

/** The signed-in user, or null. */
export async function session(): Promise<Session | null> {
  try {
    return await getJson<Session>(SESSION);
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return null;
    throw error;
  }
}

/** Signs in; the session is a cookie that scripts cannot read. */
export async function signIn(user: string, password: string): Promise<Session> {
  forgetEarly();
  const response = await call('/session', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ user, password }),
  });
  return (await response.json()) as Session;
}

/** Ends the session. */
export async function signOut(): Promise<void> {
  await call('/session', { method: 'DELETE' });
}

async function pages<P extends { next?: string | null }, T>(
  path: string,
  pick: (page: P) => T[],
  signal?: AbortSignal,
): Promise<T[]> {
  const all: T[] = [];
  let cursor: string | null = null;
  for (let n = 0; n < PAGES_MAX; n += 1) {
    const query = new URLSearchParams({ limit: String(PAGE_LIMIT) });
    if (cursor !== null) query.set('cursor', cursor);
    const join = path.includes('?') ? '&' : '?';
    const page: P = await getJson<P>(path + join + query.toString(), signal);
    all.push(...pick(page));
    cursor = page.next ?? null;
    if (cursor === null) break;
  }
  return all;
}

/** All devices of the fleet. */
export function devices(signal?: AbortSignal): Promise<Device[]> {
  return pages<Schemas['DevicePage'], Device>('/devices', (page) => page.devices, signal);
}

/** One device. */
export function device(id: string, signal?: AbortSignal): Promise<Device> {
  return getJson<Device>(`/devices/${encodeURIComponent(id)}`, signal);
}

/** The first series that words mean (of device, its marks, point, name and unit), and whether there are more. */
export async function findSeries(words: string, most: number, signal?: AbortSignal): Promise<{ series: Series[]; more: boolean }> {
  const params = new URLSearchParams({ q: words, limit: String(most) });
  const page = await getJson<Schemas['SeriesPage']>(`/series?${params.toString()}`, signal);
  return { series: page.series, more: page.next != null };
}

/** All series of a device. */
export function seriesOf(id: string, signal?: AbortSignal): Promise<Series[]> {
  const path = `/series?device=${encodeURIComponent(id)}`;
  return pages<Schemas['SeriesPage'], Series>(path, (page) => page.series, signal);
}

/** Buckets of several series over [from, to], Unix ms. */
export async function query(
  ids: string[],
  from: number,
  to: number,
  buckets: number,
  signal?: AbortSignal,
): Promise<QueryAnswer> {
  const parts: Promise<QueryAnswer>[] = [];
  for (let at = 0; at < ids.length; at += QUERY_SERIES_MAX) {
    const params = new URLSearchParams({
      series: ids.slice(at, at + QUERY_SERIES_MAX).join(','),
      from: String(Math.floor(from)),
      to: String(Math.ceil(to)),
      buckets: String(buckets),
    });
    parts.push(getJson<QueryAnswer>(`/query?${params.toString()}`, signal));
  }
  const answers = await Promise.all(parts);
  return {
    series: answers.flatMap((answer) => answer.series),
    partial: answers.some((answer) => answer.partial),
    missing: answers.flatMap((answer) => answer.missing ?? []),
    // Every part of a device's query lists the same gaps.
    gaps: answers[0]?.gaps ?? [],
    restamped: answers[0]?.restamped ?? [], late: answers[0]?.late ?? [],
    thinned_to: Math.max(0, ...answers.map((answer) => answer.thinned_to ?? 0)) || null,
  };
}

/** Rows asked for in one page of raw readings. */
const RAW_PAGE_ROWS = 5_000;

/** The oldest raw readings of some series over [from, to], at most `rows`, and what is said beside them; of one more page, `next`. */
export async function rawRows(
  ids: string[],
  from: number,
  to: number,
  rows: number,
  signal?: AbortSignal,
): Promise<RawAnswer> {
  const params = new URLSearchParams({ series: ids.join(','), from: String(Math.floor(from)), to: String(Math.ceil(to)) });
  const pages: RawAnswer[] = [];
  for (let left = rows; left > 0;) {
    params.set('limit', String(Math.min(left, RAW_PAGE_ROWS)));
    const page = await getJson<RawAnswer>(`/query?${params.toString()}`, signal);
    pages.push(page);
    left -= page.series.reduce((sum, columns) => sum + columns.t.length, 0);
    if (!page.next) break;
    params.set('cursor', page.next);
  }
  const last = pages[pages.length - 1];
  return { ...last, series: pages.flatMap((page) => page.series) };
}

/** When a device's agent came and went, oldest first. */
export function deviceEvents(id: string, signal?: AbortSignal): Promise<DeviceEvents> {
  return getJson<DeviceEvents>(`/devices/${encodeURIComponent(id)}/events`, signal);
}

export function post(path: string, body: object, accept = 'application/json', signal?: AbortSignal, more: Record<string, string> = {}): Promise<Response> {
  const headers = { 'content-type': 'application/json', accept, ...more };
  return call(path, { method: 'POST', headers, body: JSON.stringify(body), signal });
}

/** Each series' figures over the whole of [from, to], Unix ms. */
export async function statistics(ids: string[], functions: string[], from: number, to: number, signal?: AbortSignal): Promise<AggregateAnswer> {
  const body = { select: { series: ids }, group_by: 'series', functions, from: String(Math.floor(from)), to: String(Math.ceil(to)) };
  return (await (await post('/aggregate', body, 'application/json', signal)).json()) as AggregateAnswer;
}

/** A value of a row of SQL as JSON has it. */
export type SqlValue = string | number | boolean | null | SqlValue[];
export interface SqlAnswer { columns: SqlColumn[]; rows: SqlValue[][] }

/** The answer to a statement. */
export async function sql(statement: string, signal?: AbortSignal): Promise<SqlAnswer> {
  return (await (await post('/sql', { sql: statement }, 'application/json', signal)).json()) as SqlAnswer;
}

export const FILES = { csv: 'text/csv', parquet: 'application/vnd.apache.parquet' } as const;
export type FileKind = keyof typeof FILES;

/** The answer to a statement as a file. */
export async function sqlFile(statement: string, kind: FileKind): Promise<Blob> {
  return (await post('/sql', { sql: statement }, FILES[kind])).blob();
}

/** Where the readings of series over [from, to] are had as a file, however many they are. */
export function exportAddress(ids: string[], from: number, to: number, format: FileKind): string {
  const params = new URLSearchParams({ series: ids.join(','), from: String(Math.floor(from)), to: String(Math.ceil(to)), format });
  return `${BASE}/export?${params.toString()}`;
}

/** Where the twin of a device is, by its id, or what devices share, by `site/hall-2` and `group/pumps`: no id has a slash. */
function twinOf(name: string): string {
  const [, kind, of] = /^(site|group)\/(.+)$/.exec(name) ?? [];
  return `/${kind === undefined ? 'device' : kind}s/${encodeURIComponent(of ?? name)}/twin`;
}

/** What is wanted of a device, what it reports, its tags and notes; or of what devices share. */
export function twin(id: string, signal?: AbortSignal): Promise<Twin> {
  return getJson<Twin>(twinOf(id), signal);
}

/** Leaves with values that exclude each other. */
export async function twinConflicts(id: string, signal?: AbortSignal): Promise<TwinConflict[]> {
  return (await getJson<Schemas['TwinConflicts']>(`${twinOf(id)}/conflicts`, signal)).conflicts;
}

/** Steps of a twin asked for at most. */
const STEPS_MAX = 500;

/** Of one leaf or those below it, within [from, to] (Unix ms, or without an end). */
export interface StepsOf { key?: string; from?: number; to?: number }

/** What was done to a twin, the newest steps first. */
export async function twinHistory(id: string, signal?: AbortSignal, { key, from, to }: StepsOf = {}): Promise<TwinStep[]> {
  const params = new URLSearchParams({ order: 'newest', limit: String(STEPS_MAX) });
  if (key !== undefined) params.set('key', key);
  if (from !== undefined && from > 0) params.set('from', String(Math.floor(from)));
  // The hub's end is not within.
  if (to !== undefined && Number.isFinite(to)) params.set('to', String(Math.ceil(to) + 1));
  return (await getJson<Schemas['TwinHistory']>(`${twinOf(id)}/history?${params.toString()}`, signal)).steps;
}

/** Changes a section of a twin by a patch that is JSON already; the change is on the hub's disk when this resolves. */
export async function patchTwinText(id: string, section: string, patch: string): Promise<void> {
  await call(twinOf(id), {
    method: 'PATCH',
    headers: { 'content-type': 'application/merge-patch+json' },
    body: `{${JSON.stringify(section)}:${patch}}`,
  });
}

/** Changes a section of a twin; the change is on the hub's disk when this resolves. */
export function patchTwin(id: string, section: string, patch: Record<string, unknown>): Promise<void> {
  return patchTwinText(id, section, JSON.stringify(patch));
}
