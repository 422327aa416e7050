// What is known of a device beside its readings, as text.
import type { Device } from '../api/client';
import { texts } from '../texts';

export interface Fact { name: string; text: string }

/** What agent and operators say of a device, without what nobody said. */
export function facts(device: Device): Fact[] {
  const said = texts.device.facts;
  const about = device.about;
  const made = [about?.vendor, about?.model].filter((text) => text).join(' ');
  const tags = Object.entries(device.tags).map(([key, value]) => (value ? `${key}=${value}` : key));
  return [
    { name: said.site, text: device.site },
    { name: said.groups, text: device.groups.join(', ') },
    { name: said.tags, text: tags.join(', ') },
    { name: said.position, text: device.position ? `${device.position.lat}, ${device.position.lon}` : '' },
    { name: said.made, text: made },
    { name: said.firmware, text: about?.firmware ?? '' },
    { name: said.profile, text: about?.profile ?? '' },
    { name: said.via, text: about?.via ?? '' },
  ].filter(({ text }) => text !== '');
}
