// The state of the fleet page: its figures and all devices, asked for now and then, and what is drawn of them kept fresh by
// the live feed in between.
import * as api from '../api/client';
import type { Device } from '../api/client';
import { fleet, fleetDevices, type FleetAnswer } from '../api/fleet';
import { LiveFeed, type LiveState } from '../api/live';
import { changedRow, FILTERS, optionsOf, rowsOf, type FilterName, type Row } from './fleettable';
import { status } from './status.svelte';

const TICK_MS = 1000;
/** How often the figures are asked for. */
const FIGURES_MS = 5000;
/** How often all devices are, and where they are many: the rows that are drawn are live anyway. */
const DEVICES_MS = 5000;
const MANY_MS = 20_000;
const MANY = 1000;
/** Wait until the page stands still before its other rows are followed. */
const FOLLOW_AFTER_MS = 500;

export interface FilterOptions { name: FilterName; all: [string, number][] }

export class Fleet {
  figures = $state.raw<FleetAnswer | null>(null);
  rows = $state.raw<Row[]>([]);
  /** The values of filters, as of when all devices were last asked for. */
  options = $state.raw<FilterOptions[]>([]);
  loaded = $state(false);
  error = $state('');
  now = $state(api.hubNow());

  #feed: LiveFeed | null = null;
  #followed = '';
  #wanted: string[] = [];
  #following: ReturnType<typeof setTimeout> | undefined;
  #ticks: ReturnType<typeof setInterval>;
  #abort = new AbortController();
  #askedFigures = Number.NEGATIVE_INFINITY;
  #askedDevices = Number.NEGATIVE_INFINITY;
  #loading = new Set<string>();
  /** Events since the last tick: a large fleet redraws once a tick, not once an event. */
  #changed = new Map<string, Device>();
  #newest = new Map<string, number>();

  constructor() {
    this.#ticks = setInterval(() => this.#tick(), TICK_MS);
    this.#ask();
  }

  close(): void {
    this.#feed?.close();
    clearInterval(this.#ticks);
    clearTimeout(this.#following);
    this.#abort.abort();
  }

  /** Has the live feed bring these devices: those that are drawn. */
  follow(ids: string[]): void {
    this.#wanted = ids;
    // Who names no device gets what comes of all.
    if (!this.loaded || (ids.length === 0 && this.rows.length > 0)) return;
    clearTimeout(this.#following);
    this.#following = setTimeout(() => this.#refollow(), this.#feed === null ? 0 : FOLLOW_AFTER_MS);
  }

  #refollow(): void {
    const device = [...this.#wanted].sort().join(',');
    if (this.#feed !== null && device === this.#followed) return;
    this.#feed?.close();
    this.#followed = device;
    const isFirst = this.#feed === null;
    // Other rows are no interruption that a person should see.
    const state = (now: LiveState): void => {
      if (isFirst || now !== 'connecting') status.live = now;
    };
    this.#feed = new LiveFeed(device === '' ? {} : { device }, {
      state,
      resync: () => this.refresh(),
      device: (changed) => { this.#changed.set(changed.id, changed); },
      readings: ({ series }) => {
        for (const { id, t } of series) this.#note(id.slice(0, id.indexOf('/')), t);
      },
    });
  }

  #note(device: string, times: number[]): void {
    const newest = times.reduce((a, b) => Math.max(a, b), this.#newest.get(device) ?? 0);
    this.#newest.set(device, newest);
  }

  /** Asks for everything again: something was missed or changed. */
  refresh(): void {
    this.#askedFigures = Number.NEGATIVE_INFINITY;
    this.#askedDevices = Number.NEGATIVE_INFINITY;
    this.#ask();
  }

  #tick(): void {
    if (document.hidden) return;
    this.now = api.hubNow();
    this.#apply();
    this.#ask();
  }

  #apply(): void {
    if (this.#changed.size === 0 && this.#newest.size === 0) return;
    this.rows = this.rows.map((row) => {
      const device = this.#changed.get(row.id);
      const next = device === undefined ? row : changedRow(row, device);
      const newest = this.#newest.get(row.id) ?? 0;
      return newest > (next.last ?? 0) ? { ...next, last: newest } : next;
    });
    this.#changed.clear();
    this.#newest.clear();
  }

  #ask(): void {
    const at = performance.now();
    if (at - this.#askedFigures >= FIGURES_MS) {
      this.#askedFigures = at;
      void this.#load('figures', async (signal) => { this.figures = await fleet(signal); });
    }
    if (at - this.#askedDevices >= (this.rows.length > MANY ? MANY_MS : DEVICES_MS)) {
      this.#askedDevices = at;
      void this.#load('devices', async (signal) => {
        const rows = rowsOf(await fleetDevices(signal));
        this.loaded = true;
        this.rows = rows;
        this.options = FILTERS.map((name) => ({ name, all: optionsOf(rows, name) }));
      });
    }
  }

  async #load(name: string, ask: (signal: AbortSignal) => Promise<void>): Promise<void> {
    if (this.#loading.has(name)) return;
    this.#loading.add(name);
    try {
      await ask(this.#abort.signal);
      this.error = '';
    } catch (error) {
      if (!this.#abort.signal.aborted) this.error = error instanceof Error ? error.message : String(error);
    } finally {
      this.#loading.delete(name);
    }
  }
}
