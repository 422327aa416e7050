// One EventSource, kept open while the page can be seen. The browser itself
// reconnects after a network error and resumes by Last-Event-ID; this class
// adds what it does not do: reopening after an HTTP error, closing while the
// tab is hidden, and telling the page when something may have been missed.
import { session } from './client';
import type { CommandEvent, Device, LiveReadings, QueryGap, TwinEvent } from './client';
import { FetchedEvents } from './events';
import { wayTo } from './way';

/** `idle`: the page has nothing to listen to. */
export type LiveState = 'idle' | 'connecting' | 'live' | 'reconnecting' | 'paused';

export interface LiveHandlers {
  state(state: LiveState): void;
  /** Events may have been missed: what is shown must be asked for again. */
  resync(): void;
  readings?(data: LiveReadings): void;
  device?(data: Device): void;
  gap?(data: QueryGap): void;
  twin?(data: TwinEvent): void;
  command?(data: CommandEvent): void;
}

/** Events are handed out no more often than this, all that came at once: four times a second is live to the eye. */
export const HAND_OUT_MS = 250;
/** Events kept for that; beyond it the page asks for everything again. */
const WAITING_MAX = 10_000;
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 15_000;

export class LiveFeed {
  #source: EventSource | FetchedEvents | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #waiting: (() => void)[] = [];
  #handing: ReturnType<typeof setTimeout> | undefined;
  #handedAt = Number.NEGATIVE_INFINITY;
  #attempt = 0;
  #interrupted = false;
  #held = false;
  #closed = false;
  readonly #url: string;
  readonly #on: LiveHandlers;

  constructor(params: Record<string, string>, handlers: LiveHandlers) {
    const query = new URLSearchParams(params).toString();
    this.#url = `/live${query ? `?${query}` : ''}`;
    this.#on = handlers;
    document.addEventListener('visibilitychange', this.#visibility);
    this.#visibility();
  }

  close(): void {
    this.#closed = true;
    document.removeEventListener('visibilitychange', this.#visibility);
    this.#drop();
  }

  /** Closes the stream, as a hidden tab does, until it is let go again. */
  hold(on: boolean): void {
    if (on === this.#held) return;
    this.#held = on;
    this.#visibility();
  }

  /** Hands out what waits: who takes an answer in knows first what came before it. */
  flush(): void {
    clearTimeout(this.#handing);
    this.#handing = undefined;
    this.#handedAt = performance.now();
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const handle of waiting) handle();
  }

  #later(handle: () => void): void {
    this.#waiting.push(handle);
    if (this.#waiting.length > WAITING_MAX) {
      this.#waiting = [];
      this.#on.resync();
    }
    if (this.#handing !== undefined) return;
    const wait = Math.max(0, this.#handedAt + HAND_OUT_MS - performance.now());
    this.#handing = setTimeout(() => this.flush(), wait);
  }

  #visibility = (): void => {
    if (this.#closed) return;
    if (document.hidden || this.#held) {
      this.#drop();
      this.#interrupted = true;
      this.#on.state('paused');
    } else if (this.#source === null) {
      this.#attempt = 0;
      this.#open();
    }
  };

  #drop(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#handing);
    this.#handing = undefined;
    // What it held is asked for again on return.
    this.#waiting = [];
    this.#source?.close();
    this.#source = null;
  }

  #open(): void {
    this.#drop();
    this.#on.state(this.#interrupted ? 'reconnecting' : 'connecting');
    const { address, headers } = wayTo(this.#url);
    // An EventSource sends no headers.
    const source = 'authorization' in headers ? new FetchedEvents(address, headers) : new EventSource(address);
    this.#source = source;
    source.onopen = () => {
      this.#attempt = 0;
      this.#on.state('live');
      if (this.#interrupted) this.#on.resync();
      this.#interrupted = false;
    };
    source.onerror = () => {
      this.#interrupted = true;
      this.#on.state('reconnecting');
      if (source.readyState !== EventSource.CLOSED) return;
      // Why, the next question tells: that a link has ended, or a session.
      if (source instanceof FetchedEvents && source.isRefused) this.#on.resync();
      // An EventSource knows no status: whether it is the session, asking for that tells all who are to know.
      if (!(source instanceof FetchedEvents)) void session().catch(() => null);
      this.#reopen();
    };
    this.#listen<LiveReadings>(source, 'readings', (data) => this.#on.readings?.(data));
    this.#listen<Device>(source, 'device', (data) => this.#on.device?.(data));
    this.#listen<QueryGap>(source, 'gap', (data) => this.#on.gap?.(data));
    this.#listen<TwinEvent>(source, 'twin', (data) => this.#on.twin?.(data));
    this.#listen<CommandEvent>(source, 'command', (data) => this.#on.command?.(data));
    source.addEventListener('reset', () => this.#on.resync());
  }

  #listen<T>(source: EventSource | FetchedEvents, name: string, handle: (data: T) => void): void {
    source.addEventListener(name, (event) => {
      let data: T;
      try {
        data = JSON.parse((event as MessageEvent<string>).data) as T;
      } catch {
        // One bad message costs one message; the next query shows what it held.
        this.#on.resync();
        return;
      }
      this.#later(() => handle(data));
    });
  }

  #reopen(): void {
    // Full jitter, clamped after it, so that a fleet of open pages does not knock at once.
    const ceiling = RETRY_FIRST_MS * 2 ** this.#attempt;
    const wait = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS + Math.random() * ceiling);
    this.#attempt = Math.min(this.#attempt + 1, 6);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open(), wait);
  }
}
