// Boards by the hub's API: typed calls.
import { call, getJson } from './client';
import type { components } from './types';

type Schemas = components['schemas'];
export type Board = Schemas['Board'];
export type BoardInfo = Schemas['BoardInfo'];
export type BoardAnswer = Schemas['BoardAnswer'];
export type BoardVersion = Schemas['BoardVersion'];
export type BoardSeries = Schemas['BoardSeries'];
export type BoardChoices = Schemas['BoardChoices'];
export type BoardShare = Schemas['BoardShare'];
export type BoardShared = Schemas['BoardShared'];
export type SharedBoard = Schemas['SharedBoard'];
export type Panel = Schemas['Panel'];
export type Show = Schemas['Show'];
export type Variable = Schemas['Variable'];
export type Band = Schemas['Band'];
export type Level = Schemas['Level'];
export type Figure = Schemas['Figure'];
export type Kind = Show['kind'];

const of = (id: string): string => `/boards/${encodeURIComponent(id)}`;

async function send<T>(method: string, path: string, body?: object, version?: number | '*'): Promise<T> {
  const match: Record<string, string> = version === undefined ? {} : { 'if-match': version === '*' ? '*' : `"${version}"` };
  const response = await call(path, {
    method,
    headers: { ...(body ? { 'content-type': 'application/json' } : {}), ...match },
    ...(body ? { body: JSON.stringify(body) } : {}),
  });
  return (response.status === 204 ? undefined : await response.json()) as T;
}

export async function boards(): Promise<BoardInfo[]> {
  return (await getJson<Schemas['BoardList']>('/boards')).boards;
}

export function board(id: string): Promise<BoardAnswer> {
  return getJson<BoardAnswer>(of(id));
}

/** The board that a device's profile makes. */
export function deviceBoard(device: string): Promise<Board> {
  return getJson<Board>(`/boards/device/${encodeURIComponent(device)}`);
}

export function createBoard(made: Board): Promise<BoardAnswer> {
  return send('POST', '/boards', made);
}

/** Makes the next version of the one that was seen. */
export function saveBoard(id: string, changed: Board, version: number): Promise<BoardAnswer> {
  return send('PUT', of(id), changed, version);
}

export function deleteBoard(id: string, version: number): Promise<void> {
  return send('DELETE', of(id), undefined, version);
}

export async function boardVersions(id: string): Promise<BoardVersion[]> {
  return (await getJson<Schemas['BoardVersions']>(`${of(id)}/versions`)).versions;
}

export function restoreBoard(id: string, older: number, version: number): Promise<BoardAnswer> {
  return send('POST', `${of(id)}/restore`, { version: older }, version);
}

/** Which series there are of names as boards have them. */
export function seriesOfNames(patterns: string[], variables: Variable[], values: Record<string, string>): Promise<BoardSeries> {
  return send('POST', '/boards/series', { patterns, variables, values });
}

/** What variables can be; the first devices with `text` in their names. */
export function choices(text: string): Promise<BoardChoices> {
  return getJson<BoardChoices>(`/boards/choices?${new URLSearchParams({ q: text }).toString()}`);
}

export async function shares(id: string): Promise<BoardShare[]> {
  return (await getJson<Schemas['BoardShares']>(`${of(id)}/shares`)).shares;
}

export function shareBoard(id: string, note: string, seconds: number, values: Record<string, string>): Promise<BoardShared> {
  return send('POST', `${of(id)}/shares`, { note, ttl_s: seconds, values });
}

export function endShare(id: string, share: string): Promise<void> {
  return send('DELETE', `${of(id)}/shares/${encodeURIComponent(share)}`);
}

/** What the link shows that is asked by. */
export function sharedBoard(): Promise<SharedBoard> {
  return getJson<SharedBoard>('/board');
}
