// The state of the fleet page: the devices, kept fresh by the live feed, or by
// asking again where it is silent.
import * as api from '../api/client';
import type { Device } from '../api/client';
import { LiveFeed } from '../api/live';
import { status } from './status.svelte';

/** Without a device event for this long the list is asked for again. */
const REFETCH_MS = 5000;
const TICK_MS = 1000;

export class Fleet {
  devices = $state.raw<Device[]>([]);
  loaded = $state(false);
  error = $state('');
  now = $state(api.hubNow());

  #feed: LiveFeed;
  #ticks: ReturnType<typeof setInterval>;
  #abort = new AbortController();
  #heardAt = 0;
  #loading = false;
  /** Events since the last tick: a large fleet redraws once a tick, not once an event. */
  #changed = new Map<string, Device>();
  #newest = new Map<string, number>();

  constructor() {
    this.#feed = new LiveFeed({}, {
      state: (state) => { status.live = state; },
      resync: () => void this.#load(),
      device: (device) => {
        this.#heardAt = performance.now();
        this.#changed.set(device.id, device);
      },
      readings: ({ series }) => {
        for (const { id, t } of series) this.#note(id.slice(0, id.indexOf('/')), t);
      },
    });
    this.#ticks = setInterval(() => this.#tick(), TICK_MS);
    void this.#load();
  }

  close(): void {
    this.#feed.close();
    clearInterval(this.#ticks);
    this.#abort.abort();
  }

  #note(device: string, times: number[]): void {
    const newest = times.reduce((a, b) => Math.max(a, b), this.#newest.get(device) ?? 0);
    this.#newest.set(device, newest);
  }

  #tick(): void {
    if (document.hidden) return;
    this.now = api.hubNow();
    this.#apply();
    if (performance.now() - this.#heardAt >= REFETCH_MS) void this.#load();
  }

  #apply(): void {
    if (this.#changed.size === 0 && this.#newest.size === 0) return;
    const known = this.devices.map((device) => {
      const next = this.#changed.get(device.id) ?? device;
      this.#changed.delete(device.id);
      const newest = this.#newest.get(device.id) ?? 0;
      return newest > (next.last_reading_ms ?? 0) ? { ...next, last_reading_ms: newest } : next;
    });
    this.devices = [...known, ...this.#changed.values()];
    this.#changed.clear();
    this.#newest.clear();
  }

  async #load(): Promise<void> {
    if (this.#loading) return;
    this.#loading = true;
    this.#heardAt = performance.now();
    try {
      this.devices = await api.devices(this.#abort.signal);
      this.loaded = true;
      this.error = '';
    } catch (error) {
      if (!this.#abort.signal.aborted) this.error = error instanceof Error ? error.message : String(error);
    } finally {
      this.#loading = false;
    }
  }
}
