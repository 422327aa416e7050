// The state of the fleet page: its figures and all devices, asked for now and then, and what is drawn of them kept fresh by
// the live feed in between.
import * as api from '../api/client';
import type { Device } from '../api/client';
import { fleet, fleetDevices, fleetFirst, type FleetAnswer, type FleetTable } from '../api/fleet';
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
  /** Whether these are all devices, and not the first ones only. */
  whole = $state(false);
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
  /** Whether the first rows are still to come: they come alone, since all the others would hold them up. */
  #isFirst: boolean;
  /** Events since the last tick: a large fleet redraws once a tick, not once an event. */
  #changed = new Map<string, Device>();
  #newest = new Map<string, number>();

  /** `isPlain` where the list begins with the first devices by id. */
  constructor(isPlain: boolean) {
    this.#isFirst = isPlain;
    this.#ticks = setInterval(() => this.#tick(), TICK_MS);
    this.#ask();
  }

  close(): void {
    this.#feed?.close();
    clearInterval(this.#ticks);
    clearTimeout(this.#following);
    this.#abort.abort();
  }

  /** How many devices there are. */
  get total(): number {
    return this.whole ? this.rows.length : (this.figures?.counts.devices ?? 0);
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
    if (this.#isFirst) {
      this.#askedFigures = at;
      void this.#load('figures', (signal) => this.#first(signal));
      return;
    }
    if (at - this.#askedFigures >= FIGURES_MS) {
      this.#askedFigures = at;
      void this.#load('figures', async (signal) => { this.figures = await fleet(signal); });
    }
    if (at - this.#askedDevices >= (this.rows.length > MANY ? MANY_MS : DEVICES_MS)) {
      this.#askedDevices = at;
      void this.#load('devices', async (signal) => {
        this.#take(await fleetDevices(signal), true);
      });
    }
  }

  #take(table: FleetTable, whole: boolean): void {
    const rows = rowsOf(table);
    this.loaded = true;
    this.whole = whole;
    this.rows = rows;
    if (whole) this.options = FILTERS.map((name) => ({ name, all: optionsOf(rows, name) }));
  }

  /** The figures and the first rows; the others once these are on the screen. */
  async #first(signal: AbortSignal): Promise<void> {
    try {
      const answer = await fleetFirst(signal);
      this.figures = answer;
      const { first, counts } = answer;
      if (first == null) return;
      this.#take(first, first.id.length >= counts.devices);
      if (this.whole) this.#askedDevices = performance.now();
    } finally {
      this.#isFirst = false;
      // A page that is not seen is not painted: the next tick asks there.
      requestAnimationFrame(() => setTimeout(() => {
        if (!signal.aborted) this.#ask();
      }));
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
