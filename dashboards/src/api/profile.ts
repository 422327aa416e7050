// What the profile of a device says.
import { getJson } from './client';
import type { components } from './types';

type Schemas = components['schemas'];
export type DeviceProfile = Schemas['DeviceProfile'];
export type ProfileCommand = Schemas['ProfileCommand'];

/** The profile that a device is read by, as far as the hub knows it. */
export function profileOf(device: string, signal?: AbortSignal): Promise<DeviceProfile> {
  return getJson<DeviceProfile>(`/devices/${encodeURIComponent(device)}/profile`, signal);
}
