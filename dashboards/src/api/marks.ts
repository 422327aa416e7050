// What operators say of devices: title, site, groups and tags.
import { call, type Device } from './client';

export interface MarksPatch { title?: string | null; site?: string | null; groups?: string[]; tags?: Record<string, string | null> }

/** Changes what is given, and leaves the rest; null takes away. */
export async function patchDevice(id: string, patch: MarksPatch, signal?: AbortSignal): Promise<Device> {
  const answer = await call(`/devices/${encodeURIComponent(id)}`, {
    method: 'PATCH', headers: { 'content-type': 'application/json' }, body: JSON.stringify(patch), signal,
  });
  return (await answer.json()) as Device;
}
