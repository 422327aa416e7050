// Whose clock the page writes times by: the browser's, UTC, or that of the site whose devices are shown. Kept for the next visit.
import { sitesOf } from '../api/sites';
import { keep, kept } from './kept';
import { ZONES, type Zone } from './time';
import { isZone } from './zoned';

const KEPT = 'tideline.zone';

/** What the site's clock is of the devices that are shown: a zone, or why there is none. */
export type SiteZone = { zone: string } | { why: 'asking' | 'none' | 'several' | 'unknown' };

class ZoneChoice {
  name = $state<Zone>(kept(KEPT, ZONES) ?? 'browser');
  site = $state.raw<SiteZone>({ why: 'none' });
  #asked = '';

  /** The zone by its IANA name; null is the browser's own, also where a site's is not known. */
  get iana(): string | null {
    if (this.name === 'utc') return 'Etc/UTC';
    return this.name === 'site' && 'zone' in this.site ? this.site.zone : null;
  }

  /** Its name for who does not see the page. */
  get text(): string {
    const { iana } = this;
    if (iana === null) return Intl.DateTimeFormat().resolvedOptions().timeZone;
    return this.name === 'utc' ? 'UTC' : iana;
  }

  choose(name: Zone): void {
    this.name = name;
    keep(KEPT, name);
  }

  /** The devices that are shown: if all are at sites of one zone, it is the site's. Asked `anew` also of the same ones. */
  async of(devices: string[], anew = false): Promise<void> {
    const all = [...new Set(devices)].sort();
    const asked = all.join(',');
    if (asked === this.#asked && !anew) return;
    if (asked !== this.#asked) this.site = { why: all.length === 0 ? 'none' : 'asking' };
    this.#asked = asked;
    if (all.length === 0) return;
    let found: SiteZone;
    try {
      const sites = await sitesOf(all);
      const zones = new Set(sites.map(({ zone }) => zone));
      const placed = sites.reduce((sum, { devices: n }) => sum + n, 0);
      const [zone] = zones;
      if (placed < all.length || zones.has(null)) found = { why: zones.size > 1 ? 'several' : 'none' };
      else if (zones.size > 1 || zone == null) found = { why: 'several' };
      else found = isZone(zone) ? { zone } : { why: 'unknown' };
    } catch {
      // The page itself says when the hub cannot be reached; it is asked again with the next devices.
      found = { why: 'none' };
      if (asked === this.#asked) this.#asked = '';
    }
    if (asked === this.#asked || this.#asked === '') this.site = found;
  }
}

export const zone = new ZoneChoice();
