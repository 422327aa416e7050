// What operators do: enrolment, access, the hub's health and store.
import { call, getJson, post } from './client';
import type { components } from './types';

type Schemas = components['schemas'];
export type EnrollToken = Schemas['EnrollTokenAnswer'];
export type EnrollTokenInfo = Schemas['EnrollTokenInfo'];
export type Health = Schemas['HealthAnswer'];
export type StoreInfo = Schemas['StoreInfo'];
export type Verification = Schemas['StoreVerification'];
export type FleetEvents = Schemas['FleetEvents'];
export type User = Schemas['UserInfo'];
export type Token = Schemas['TokenInfo'];
export type NewToken = Schemas['TokenRequest'];
export type DeviceToken = Schemas['DeviceTokenInfo'];
export type Stranger = Schemas['Stranger'];
export type DeadLetter = Schemas['DeadLetter'];

/** A token that lets one device enrol. */
export async function makeEnrollToken(device: string, ttl_s: number): Promise<EnrollToken> {
  return (await (await post('/enroll-tokens', { device, ttl_s })).json()) as EnrollToken;
}

export async function enrollTokens(signal?: AbortSignal): Promise<EnrollTokenInfo[]> {
  return (await getJson<Schemas['EnrollTokenList']>('/enroll-tokens', signal)).tokens;
}

export function health(signal?: AbortSignal): Promise<Health> {
  return getJson<Health>('/health', signal);
}

export function store(signal?: AbortSignal): Promise<StoreInfo> {
  return getJson<StoreInfo>('/store', signal);
}

/** Has all of the store read and checked, which takes its time. */
export async function verify(): Promise<Verification> {
  return (await (await post('/store/verify', {})).json()) as Verification;
}

/** When agents came and went, the newest first. */
export function events(limit: number, cursor: string | null, signal?: AbortSignal): Promise<FleetEvents> {
  const params = new URLSearchParams({ limit: String(limit), ...(cursor === null ? {} : { cursor }) });
  return getJson<FleetEvents>(`/events?${params.toString()}`, signal);
}

export async function users(signal?: AbortSignal): Promise<User[]> {
  return (await getJson<Schemas['UserList']>('/users', signal)).users;
}

export async function makeUser(name: string, password: string, role: User['role']): Promise<void> {
  await post('/users', { name, password, role });
}

export async function tokens(signal?: AbortSignal): Promise<Token[]> {
  return (await getJson<Schemas['TokenList']>('/tokens', signal)).tokens;
}

/** A token's text, which is told this once. */
export async function makeToken(token: NewToken): Promise<string> {
  return ((await (await post('/tokens', token)).json()) as Schemas['TokenAnswer']).token;
}

export async function deviceTokens(signal?: AbortSignal): Promise<DeviceToken[]> {
  return (await getJson<Schemas['DeviceTokenList']>('/device-tokens', signal)).tokens;
}

/** A device token's text, which is told this once. */
export async function makeDeviceToken(device: string): Promise<string> {
  return ((await (await post('/device-tokens', { device })).json()) as Schemas['DeviceTokenAnswer']).token;
}

/** Takes something away: an enrolment token, a user, a token, a device token, a dead letter. */
export async function remove(what: 'enroll-tokens' | 'users' | 'tokens' | 'device-tokens' | 'dead-letters', id: string): Promise<void> {
  await call(`/${what}/${encodeURIComponent(id)}`, { method: 'DELETE' });
}

export async function strangers(signal?: AbortSignal): Promise<Stranger[]> {
  return (await getJson<Schemas['StrangerList']>('/strangers', signal)).strangers;
}

/** Registers an agent again that a restored hub does not know any more. */
export async function adopt(id: string): Promise<void> {
  await call(`/devices/${encodeURIComponent(id)}/adopt`, { method: 'POST' });
}

/** Registers a field device behind an agent. */
export async function register(id: string, agent: string): Promise<void> {
  await post('/devices', { id, agent });
}

/** Shuts an agent and all behind it out for good. */
export async function revoke(id: string): Promise<void> {
  await call(`/devices/${encodeURIComponent(id)}/revoke`, { method: 'POST' });
}

/** Runs that could not be decoded, the first so many, and how many files of them cannot be read. */
export function deadLetters(limit: number, signal?: AbortSignal): Promise<Schemas['DeadLetterPage']> {
  return getJson<Schemas['DeadLetterPage']>(`/dead-letters?limit=${limit}`, signal);
}

/** Tries a dead letter again; tells how many readings came of it. */
export async function replay(id: string): Promise<number> {
  const answer = await call(`/dead-letters/${encodeURIComponent(id)}/replay`, { method: 'POST' });
  return ((await answer.json()) as Schemas['DeadLetterReplay']).rows;
}
