// The state of the page of all devices' commands: the newest ones, kept fresh by the event `command`.
import { allCommands, cancel, command, type Command, type CommandAnswer } from '../api/commands';
import { hubNow, type CommandEvent } from '../api/client';
import { LiveFeed } from '../api/live';
import { asksFor, isAsked, paramsOf, withCommands, withEvent, withHead, type Asked } from './fleetcommands';
import { status } from './status.svelte';

const PAGE = 200;
/** Commands in the page at most: each takes memory, and no one reads more. */
export const SHOWN_MAX = 10_000;
/** Pages without a fit that are looked through before somebody asks again. */
const EMPTY_PAGES_MAX = 5;
const TICK_MS = 1000;
/** Wait before what events do not tell is asked for, so that many make one question. */
const AGAIN_MS = 1500;
/** Commands that are asked for one by one; of more a page is. */
const EACH_MAX = 20;
/** Events come a little later than what they tell of, and this clock may be a little off. */
const LATE_MS = 10_000;

const textOf = (failed: unknown): string => (failed instanceof Error ? failed.message : String(failed));

export class FleetCommands {
  all = $state.raw<Command[]>([]);
  loaded = $state(false);
  busy = $state(false);
  error = $state('');
  now = $state(hubNow());
  opened = $state<string | null>(null);
  shown = $state.raw<CommandAnswer | null>(null);
  #next = $state<string | null>(null);
  #asked: Asked = {};
  #abort = new AbortController();
  #feed: LiveFeed;
  #ticks: ReturnType<typeof setInterval>;
  #again: ReturnType<typeof setTimeout> | undefined;
  /** Of which events told what is not in them: those in the list, and others. */
  #ended = new Set<string>();
  #fresh = new Set<string>();
  /** Up to when new ones were looked for, Unix ms. */
  #lookedAt = 0;
  #looking = false;

  constructor() {
    this.#ticks = setInterval(() => { this.now = hubNow(); }, TICK_MS);
    this.#feed = new LiveFeed({ events: 'command' }, {
      state: (now) => { status.live = now; },
      resync: () => void this.#head(),
      command: (event) => this.#take(event),
    });
  }

  close(): void {
    this.#feed.close();
    this.#abort.abort();
    clearInterval(this.#ticks);
    clearTimeout(this.#again);
  }

  /** Whether older ones may be asked for. */
  get more(): boolean {
    return this.#next !== null && this.all.length < SHOWN_MAX;
  }

  get isFull(): boolean {
    return this.#next !== null && this.all.length >= SHOWN_MAX;
  }

  /** Shows what is asked for from the newest on. */
  ask(asked: Asked): void {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#asked = asked;
    this.all = [];
    this.#next = null;
    this.loaded = false;
    this.busy = false;
    this.#ended.clear();
    this.#fresh.clear();
    void this.#page(null);
  }

  /** The next page of older ones. */
  older(): void {
    if (this.more && !this.busy) void this.#page(this.#next);
  }

  async open(id: string | null): Promise<void> {
    this.opened = id;
    this.shown = null;
    if (id !== null) await this.#show(id);
  }

  async end(id: string): Promise<void> {
    try {
      await cancel(id);
      this.#ended.add(id);
      this.#later();
    } catch (failed) {
      this.error = textOf(failed);
    }
  }

  async #page(from: string | null): Promise<void> {
    const { signal } = this.#abort;
    this.busy = true;
    if (from === null) this.#lookedAt = hubNow();
    try {
      let cursor = from;
      for (let empty = 0; empty < EMPTY_PAGES_MAX; empty += 1) {
        const page = await allCommands(paramsOf(this.#asked), PAGE, cursor, signal);
        // A newer first page took the place of what this one goes on from.
        if (this.#next !== cursor) break;
        const known = new Set(this.all.map(({ id }) => id));
        this.all = [...this.all, ...page.commands.filter(({ id }) => !known.has(id))];
        this.#next = cursor = page.next;
        if (page.commands.length > 0 || cursor === null) break;
      }
      this.loaded = true;
      this.error = '';
    } catch (failed) {
      if (!signal.aborted) this.error = textOf(failed);
    }
    if (!signal.aborted) this.busy = false;
  }

  /** The newest page again; what is older than it stays. */
  async #head(): Promise<void> {
    if (!this.loaded) {
      // The first question was refused, or found no hub.
      if (!this.busy) await this.#page(null);
      return;
    }
    const { signal } = this.#abort;
    this.#lookedAt = hubNow();
    try {
      const page = await allCommands(paramsOf(this.#asked), PAGE, null, signal);
      const { all, meets } = withHead(this.all, page.commands, page.next !== null);
      // Without one that fits, the hub's cursor says how far it looked.
      if (!meets || all.length === 0) this.#next = page.next;
      this.all = all;
      if (this.opened !== null) await this.#show(this.opened);
    } catch (failed) {
      if (!signal.aborted) this.error = textOf(failed);
    }
  }

  async #show(id: string): Promise<void> {
    try {
      const found = await command(id, this.#abort.signal);
      if (this.opened === id) this.shown = found;
    } catch (failed) {
      if (!this.#abort.signal.aborted) this.error = textOf(failed);
    }
  }

  #take(event: CommandEvent): void {
    const { all, known } = withEvent(this.all, event);
    this.all = all;
    if (!asksFor(event, known, this.#asked)) return;
    (known ? this.#ended : this.#fresh).add(event.id);
    this.#later();
  }

  #later(): void {
    if (this.#again !== undefined) return;
    this.#again = setTimeout(() => {
      this.#again = undefined;
      // One question at a time: a slow hub gets no second one.
      if (this.#looking) this.#later();
      else void this.#look();
    }, AGAIN_MS);
  }

  /** Asks for what events told of, and for no more of the hub's commands than that. */
  async #look(): Promise<void> {
    this.#looking = true;
    const [ended, fresh] = [[...this.#ended], [...this.#fresh]];
    this.#ended.clear();
    this.#fresh.clear();
    if (!this.loaded || ended.length > EACH_MAX) await this.#head();
    else if (fresh.length > EACH_MAX) await this.#news(ended);
    else await this.#each([...new Set([...ended, ...fresh])]);
    this.#looking = false;
  }

  async #each(ids: string[]): Promise<void> {
    const { signal } = this.#abort;
    try {
      this.#put(await Promise.all(ids.map((id) => command(id, signal))), signal);
      if (this.opened !== null && ids.includes(this.opened)) await this.#show(this.opened);
    } catch (failed) {
      if (!signal.aborted) this.error = textOf(failed);
    }
  }

  /** Those that were made since it was looked last. */
  async #news(ended: string[]): Promise<void> {
    const { signal } = this.#abort;
    const from = String(this.#lookedAt - LATE_MS);
    const at = hubNow();
    try {
      const page = await allCommands({ ...paramsOf(this.#asked), from }, PAGE, null, signal);
      if (page.next !== null) return await this.#head();
      this.#lookedAt = at;
      this.#put(page.commands, signal);
      await this.#each(ended);
    } catch (failed) {
      if (!signal.aborted) this.error = textOf(failed);
    }
  }

  #put(found: Command[], signal: AbortSignal): void {
    if (signal.aborted) return;
    const end = this.#next === null ? null : (this.all.at(-1)?.id ?? null);
    this.all = withCommands(this.all, found, end, (one) => isAsked(one, this.#asked, hubNow()));
  }
}
