// Sites and their time zones.
import { call, getJson } from './client';
import type { components } from './types';

type Schemas = components['schemas'];
export type Site = Schemas['Site'];

/** Devices of one question, so that the address stays short. */
const DEVICES_MAX = 200;
const PAGE = 1000;

/** The first sites by name, and whether there are more. */
export async function sites(signal?: AbortSignal): Promise<{ sites: Site[]; more: boolean }> {
  const page = await getJson<Schemas['SitePage']>(`/sites?limit=${PAGE}`, signal);
  return { sites: page.sites, more: page.next != null };
}

/** The sites of some devices, with how many of them are at each. */
export async function sitesOf(devices: string[], signal?: AbortSignal): Promise<Site[]> {
  const all: Site[] = [];
  for (let at = 0; at < devices.length; at += DEVICES_MAX) {
    const named = encodeURIComponent(devices.slice(at, at + DEVICES_MAX).join(','));
    all.push(...(await getJson<Schemas['SitePage']>(`/sites?limit=${PAGE}&device=${named}`, signal)).sites);
  }
  return all;
}

/** Says in which zone a site is; null for that nobody knows. */
export async function setZone(site: string, zone: string | null): Promise<void> {
  await call(`/sites/${encodeURIComponent(site)}`, { method: 'PATCH', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ zone }) });
}
