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
    { name: 'Position', text: device.position ? `${device.position.lat}, ${device.position.lon}` : '' },
    { name: 'Made by', text: made },
    { name: 'Firmware', text: about?.firmware ?? '' },
    { name: 'Profile', text: about?.profile ?? '' },
    { name: 'Read by', text: about?.via ?? '' },
  ].filter(({ text }) => text !== '');
}
