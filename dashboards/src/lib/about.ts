// What is known of a device beside its readings, as text.
import type { Device } from '../api/client';

export interface Fact { name: string; text: string }

/** What agent and operators say of a device, without what nobody said. */
export function facts(device: Device): Fact[] {
  const about = device.about;
  const made = [about?.vendor, about?.model].filter((text) => text).join(' ');
  const tags = Object.entries(device.tags).map(([key, value]) => (value ? `${key}=${value}` : key));
  return [
    { name: 'Site', text: device.site },
    { name: 'Groups', text: device.groups.join(', ') },
    { name: 'Tags', text: tags.join(', ') },
    { name: 'Made by', text: made },
    { name: 'Firmware', text: about?.firmware ?? '' },
    { name: 'Profile', text: about?.profile ?? '' },
    { name: 'Read by', text: about?.via ?? '' },
  ].filter(({ text }) => text !== '');
}

/** Whether a device is meant by a text that somebody typed: its state in full, or a part of anything else. */
export function matches(device: Device, typed: string): boolean {
  const text = typed.trim().toLowerCase();
  if (text === '' || (device.revoked ? 'revoked' : device.state) === text) return true;
  const said = [device.id, device.title, device.agent, ...facts(device).map((fact) => fact.text)];
  return said.some((part) => part.toLowerCase().includes(text));
}
