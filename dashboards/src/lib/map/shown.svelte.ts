// The state of a map: what is seen, its clusters, and the devices in view, asked for anew as it moves and now and then.
import * as api from '../../api/client';
import { map, mapDevices, type MapAnswer, type MapBounds, type MapDevice, type Of } from '../../api/map';
import { boundsText, fitted, sound, windowOf, type Size, type View } from './mercator';

/** How often devices are looked at that nobody moved the map for. */
const REFRESH_MS = 5000;
/** Wait until the map stands still. */
const SETTLE_MS = 150;
const TICK_MS = 1000;
/** Devices of the list at first, and with each "more". */
const PAGE = 100;
const WORLD: View = { x: 0.5, y: 0.4, zoom: 0 };

export class ShownMap {
  view = $state.raw<View>(WORLD);
  size = $state.raw<Size>({ width: 0, height: 0 });
  answer = $state.raw<MapAnswer | null>(null);
  devices = $state.raw<MapDevice[]>([]);
  total = $state(0);
  /** Whether there are more devices in view than are listed. */
  more = $state(false);
  /** Devices of one place, which the list is held to. */
  picked = $state.raw<MapBounds | null>(null);
  error = $state('');
  now = $state(api.hubNow());

  #of: Of;
  /** Nothing named a view, and nobody has moved it: what there is decides it. */
  #isFree: boolean;
  #isFitted = false;
  #pages = 1;
  #askedAt = Number.NEGATIVE_INFINITY;
  #abort = new AbortController();
  #settling: ReturnType<typeof setTimeout> | undefined;
  #ticks = setInterval(() => this.#tick(), TICK_MS);
  /** Told of each view that a person chose. */
  readonly #onmove: (view: View) => void;

  constructor(of: Of, view: View | null, onmove: (view: View) => void = () => {}) {
    this.#of = of;
    this.#isFree = view === null;
    this.#onmove = onmove;
    if (view) this.view = view;
  }

  close(): void {
    clearInterval(this.#ticks);
    clearTimeout(this.#settling);
    this.#abort.abort();
  }

  /** Shows other devices; where no view of them is named, that which has them all. */
  show(of: Of, isFree: boolean): void {
    if (JSON.stringify(of) === JSON.stringify(this.#of)) return;
    this.#of = of;
    // A view that is named holds, also where that of the devices before was still to come.
    [this.#isFree, this.#isFitted] = [isFree, false];
    this.picked = null;
    // What was there is of other devices, also where these are refused.
    this.answer = null;
    this.devices = [];
    this.total = 0;
    this.more = false;
    this.#ask();
  }

  resize(size: Size): void {
    if (size.width === this.size.width && size.height === this.size.height) return;
    this.size = size;
    this.view = this.#isFree && this.answer?.bounds ? fitted(this.answer.bounds, size) : sound(this.view, size);
    this.#soon();
  }

  move(view: View): void {
    this.#isFree = false;
    this.picked = null;
    this.view = view;
    this.#onmove(view);
    this.#soon();
  }

  /** Shows a view that the address names. */
  follow(view: View): void {
    this.#isFree = false;
    this.view = sound(view, this.size);
    this.#soon();
  }

  /** All devices that have a position. */
  fit(): void {
    if (this.answer?.bounds) this.move(fitted(this.answer.bounds, this.size));
  }

  /** Holds the list to the devices of one place, or to all in view. */
  pick(bounds: MapBounds | null): void {
    this.picked = bounds;
    this.#pages = 1;
    this.#ask();
  }

  listMore(): void {
    this.#pages += 1;
    this.#ask();
  }

  /** Asks for everything, after something was changed. */
  again(): void {
    this.#ask();
  }

  #soon(): void {
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => this.#ask(), SETTLE_MS);
  }

  #tick(): void {
    if (document.hidden) return;
    this.now = api.hubNow();
    if (performance.now() - this.#askedAt >= REFRESH_MS) this.#ask();
  }

  #ask(): void {
    if (this.size.width === 0 || this.size.height === 0) return;
    this.#askedAt = performance.now();
    this.#abort.abort();
    this.#abort = new AbortController();
    void this.#load(this.#abort.signal);
  }

  async #load(signal: AbortSignal): Promise<void> {
    try {
      const seen = windowOf(this.view, this.size);
      const zoom = Math.floor(this.view.zoom);
      const [answer, listed] = await Promise.all([map(this.#of, boundsText(seen), zoom, signal), this.#list(this.picked ?? seen, signal)]);
      if (signal.aborted) return;
      this.error = '';
      this.answer = answer;
      this.devices = listed.devices;
      this.total = listed.total;
      this.more = listed.more;
      if (this.#isFree && !this.#isFitted && answer.bounds) {
        this.#isFitted = true;
        this.view = fitted(answer.bounds, this.size);
        this.#soon();
      }
    } catch (error) {
      if (!signal.aborted) this.error = error instanceof Error ? error.message : String(error);
    }
  }

  async #list(bounds: MapBounds, signal: AbortSignal): Promise<{ devices: MapDevice[]; total: number; more: boolean }> {
    const devices = new Map<string, MapDevice>();
    let cursor: string | undefined;
    let total = 0;
    for (let page = 0; page < this.#pages; page += 1) {
      const found = await mapDevices(this.#of, { bbox: boundsText(bounds), limit: PAGE, cursor }, signal);
      // One whose state changes meanwhile may come on two pages.
      for (const device of found.devices) devices.set(device.id, device);
      total = found.total;
      cursor = found.next ?? undefined;
      if (cursor === undefined) break;
    }
    return { devices: [...devices.values()], total, more: cursor !== undefined };
  }
}
