// Where devices are: the map, lists of it, and plans of sites.
import { ApiError, call, getJson } from './client';
import type { components } from './types';
import { BASE } from './way';

type Schemas = components['schemas'];
export type MapAnswer = Schemas['MapAnswer'];
export type MapBounds = Schemas['MapBounds'];
export type MapCluster = Schemas['MapCluster'];
export type MapDevice = Schemas['MapDevice'];
export type MapDevices = Schemas['MapDevices'];
export type MapState = Schemas['MapState'];
export type PlanInfo = Schemas['PlanInfo'];
export type PositionPatch = Schemas['PositionPatch'];
export type PlanSpot = Schemas['PlanSpot'];

/** Whose map: that of devices as boards name them, of all where there is no name, of a site, or of a panel that a link shows. */
export type Of = { devices: string[] } | { site: string } | { panel: string };

/** Which devices of a map. */
export interface Wanted { bbox?: string; placed?: boolean; q?: string; limit?: number; cursor?: string }

/** Names with commas between them; as a list of JSON where that would cut one. */
function listed(names: string[]): string {
  return names.some((name) => name.includes(',') || name.trim() !== name) ? JSON.stringify(names) : names.join(',');
}

export function paramsOf(of: Of, more: Record<string, string | number | boolean | undefined>): string {
  const params = new URLSearchParams();
  if ('panel' in of) params.set('panel', of.panel);
  else if ('site' in of) params.set('site', of.site);
  else if (of.devices.length > 0) params.set('devices', listed(of.devices));
  for (const [name, value] of Object.entries(more)) if (value !== undefined && value !== '') params.set(name, String(value));
  return params.toString();
}

/** The clusters of a window at a zoom. */
export function map(of: Of, bbox: string | undefined, zoom: number, signal?: AbortSignal): Promise<MapAnswer> {
  return getJson<MapAnswer>(`/map?${paramsOf(of, { bbox, zoom })}`, signal);
}

/** A page of the devices of a map, those that stand worst first. */
export function mapDevices(of: Of, wanted: Wanted, signal?: AbortSignal): Promise<MapDevices> {
  return getJson<MapDevices>(`/map/devices?${paramsOf(of, { ...wanted })}`, signal);
}

/** Says where a device is; null takes away what was said. */
export async function place(id: string, where: { position?: PositionPatch | null; spot?: PlanSpot | null }): Promise<void> {
  await call(`/devices/${encodeURIComponent(id)}`, {
    method: 'PATCH',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(where),
  });
}

const planOf = (site: string): string => `/sites/${encodeURIComponent(site)}/plan`;

export async function plans(signal?: AbortSignal): Promise<PlanInfo[]> {
  return (await getJson<Schemas['PlanList']>('/plans', signal)).plans;
}

/** Where the image of a plan is; another image has another address. */
export function planAddress(plan: PlanInfo): string {
  return `${BASE}${planOf(plan.site)}?v=${plan.sha256.slice(0, 12)}`;
}

/** The image of a plan as it is now: of a site, or of a panel that a link shows; null where there is none. */
export async function planImage(of: { site: string } | { panel: string }, signal?: AbortSignal): Promise<ImageBitmap | null> {
  const path = 'site' in of ? planOf(of.site) : `/plan?${new URLSearchParams({ panel: of.panel }).toString()}`;
  try {
    return await createImageBitmap(await (await call(path, { signal })).blob());
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

export async function givePlan(site: string, image: Blob): Promise<void> {
  await call(planOf(site), { method: 'PUT', headers: { 'content-type': image.type || 'application/octet-stream' }, body: image });
}

export async function takePlan(site: string): Promise<void> {
  await call(planOf(site), { method: 'DELETE' });
}
