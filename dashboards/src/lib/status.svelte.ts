// What the header shows whichever page is open.
import type { LiveState } from '../api/live';

class Status {
  live = $state<LiveState>('connecting');
}

export const status = new Status();
