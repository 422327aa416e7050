// Whose clock the page writes times by: the browser's, or UTC. Kept for the next visit.
import { keep, kept } from './kept';
import { ZONES, type Zone } from './time';

const KEPT = 'tideline.zone';

class ZoneChoice {
  name = $state<Zone>(kept(KEPT, ZONES) ?? 'browser');

  /** Its name for who does not see the page. */
  get text(): string {
    return this.name === 'utc' ? 'UTC' : Intl.DateTimeFormat().resolvedOptions().timeZone;
  }

  choose(name: Zone): void {
    this.name = name;
    keep(KEPT, name);
  }
}

export const zone = new ZoneChoice();
