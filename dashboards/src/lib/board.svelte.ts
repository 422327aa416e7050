// The state of a device's page: which range is shown, the buckets of each
// series, and how queries and the live feed keep them true.
import * as api from '../api/client';
import type { Device, LateRange, LiveReadings, Missing, QueryGap, ReadingValue, Restamped, Series } from '../api/client';
import { LiveFeed } from '../api/live';
import { addDoubt, doubtOf, doubtsOf, DOUBTS_ROWS_MAX, DOUBTS_SPAN_MAX_MS, trimDoubts, type Doubt } from './doubts';
import { Paces } from './paces';
import {
  emptyBuckets, findStart, fromColumns, mergeLive, trimBefore, type Buckets,
} from './series';
import { appendLive, emptyTrack, loadTrack, STATE_ROWS_MAX, trimStates, type Page, type Track } from './states';
import { status } from './status.svelte';
import type { Span } from './time';
import { time } from './time.svelte';

const MINUTE = 60_000;

/** Buckets asked for: about one for two pixels of a wide chart. */
const BUCKETS = 500;
/** Late readings ask for a new query no more often than this. */
const REQUERY_MS = 2000;
/** How often the charts are drawn again at most. */
const FRAME_MS = 500;
/** Live readings keep states exact: all are asked for again no more often than this unless something was missed. */
const STATES_MS = 10 * MINUTE;
/** Without a device event for this long the device is asked for again. */
const REFETCH_MS = 5000;
/** Live readings kept while a query is under way; beyond it another query is due. */
const TAIL_MAX = 20_000;
/** One chart: a series and what is drawn of it, changed in place; `Board.version` tells when. */
export interface Card {
  series: Series;
  /** Of numbers; empty for states. */
  buckets: Buckets;
  /** Of truth values and texts; null for numbers. */
  track: Track | null;
  /** Whether the track is to be asked for with the next query: live readings keep it exact, unlike buckets. */
  due: boolean;
  /** Numbers that are not good, in a range short enough for them; null when they are not known. */
  doubts: Doubt[] | null;
  tier: string;
  last: Series['last'];
}
interface Reading { id: string; t: number; v: ReadingValue | null; quality: string }

function makeCard(series: Series): Card {
  const states = series.type === 'bool' || series.type === 'text';
  return { series, buckets: emptyBuckets(), track: states ? emptyTrack() : null, due: states, doubts: null, tier: '', last: series.last };
}

function toPage(answer: api.RawAnswer): Page {
  const rows = answer.series.flatMap(({ t, v, quality }) => (
    t.map((at, i) => ({ t: at, v: v[i] ?? null, quality: quality?.[i] ?? 'good' }))));
  return { rows, more: Boolean(answer.next) };
}

export class Board {
  span = $state.raw<Span>({ from: 0, to: 1 });
  cards = $state.raw<Card[]>([]);
  gaps = $state.raw<QueryGap[]>([]);
  restamped = $state.raw<Restamped[]>([]);
  late = $state.raw<LateRange[]>([]);
  device = $state.raw<Device | null>(null);
  partial = $state(false);
  missing = $state.raw<Missing[]>([]);
  loaded = $state(false);
  error = $state('');
  /** Whether there is no such device: nothing is asked for any more. */
  isUnknown = $state(false);
  /** Counts changes of what the charts draw. */
  version = $state(0);
  /** Counts what may have changed the twin. */
  twinTick = $state(0);
  now = $state(time.now());

  /** Of series that say little in the range. */
  readonly paces = new Paces();
  readonly id: string;
  #feed: LiveFeed;
  #frames: ReturnType<typeof setInterval>;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #abort = new AbortController();
  #listAbort = new AbortController();
  #queriedAt = 0;
  /** When all states were last to be asked for. */
  #statesAt = 0;
  /** When the device's own state was last told or asked for. */
  #heardAt = 0;
  #querying = false;
  #listing = false;
  #listed = false;
  /** Whether doubtful numbers are to be asked for with the next query. */
  #doubtsDue = true;
  #tail: Reading[] = [];
  #byId = new Map<string, Card>();
  #dirty = false;
  #start: number | null = null;
  #closed = false;

  constructor(id: string) {
    this.id = id;
    this.#moveSpan();
    this.#feed = new LiveFeed({ device: id }, {
      state: (state) => { status.live = state; },
      resync: () => { this.twinTick += 1; this.#again(); },
      readings: (data) => this.#readings(data),
      device: (data) => { if (data.id === this.id) this.#takeDevice(data); },
      gap: (data) => this.#gap(data),
      twin: (data) => { if (data.device === this.id) this.twinTick += 1; },
    });
    this.#frames = setInterval(() => this.#frame(), FRAME_MS);
    void this.#loadDevice();
    void this.#loadSeries();
  }

  close(): void {
    this.#closed = true;
    this.#feed.close();
    clearInterval(this.#frames);
    clearTimeout(this.#timer);
    this.#abort.abort();
    this.#listAbort.abort();
  }

  /** The width of the buckets asked for; the hub's own may be somewhat larger. */
  get width(): number {
    return Math.max(1, Math.ceil((this.span.to - this.span.from) / BUCKETS));
  }

  /** The time of the newest reading known, from the device's state or the live feed. */
  get newest(): number | null {
    void this.version;
    const times = this.cards.map((card) => card.last?.t ?? 0);
    return Math.max(this.device?.last_reading_ms ?? 0, ...times) || null;
  }

  /** Shows another range, after one was chosen. */
  restart(): void {
    this.#abort.abort();
    this.#querying = false;
    this.#moveSpan();
    this.#allDue();
    this.#doubtsDue = true;
    this.version += 1;
    void this.#query(time.range.kind === 'all');
  }

  /** Lets everything stand still, or go on and make up for what was missed. */
  pause(on: boolean): void {
    if (this.#closed) return;
    this.#feed.hold(on);
    this.now = time.now();
  }

  #moveSpan(): void {
    this.span = time.span(this.#start);
  }

  #takeDevice(device: Device): void {
    // What is complete depends on whether its agent is there, and the charts are to say so at once.
    const turned = this.device !== null && this.device.state !== device.state;
    this.device = device;
    if (turned && this.loaded) this.#requery();
    this.#heardAt = performance.now();
  }

  /** Asks for everything again, after events were missed or a call failed. */
  #again(): void {
    void this.#loadDevice();
    this.#allDue();
    this.#doubtsDue = true;
    if (this.#listed) this.#requery();
    else void this.#loadSeries();
  }

  #allDue(): void {
    this.#statesAt = performance.now();
    for (const card of this.cards) card.due = card.track !== null;
  }

  async #loadDevice(): Promise<void> {
    this.#heardAt = performance.now();
    try {
      this.#takeDevice(await api.device(this.id, this.#listAbort.signal));
    } catch (error) {
      this.#fail(error);
      if (!(error instanceof api.ApiError) || error.status !== 404) return;
      this.isUnknown = true;
      this.device = null;
      this.cards = [];
      this.close();
      status.live = 'idle';
    }
  }

  async #loadSeries(): Promise<void> {
    if (this.#listing || this.#closed) return;
    this.#listing = true;
    try {
      const list = await api.seriesOf(this.id, this.#listAbort.signal);
      list.sort((a, b) => (a.point < b.point ? -1 : 1));
      this.#doubtsDue ||= list.some((series) => !this.#byId.has(series.id));
      this.cards = list.map((series) => this.#byId.get(series.id) ?? makeCard(series));
      this.#byId = new Map(this.cards.map((card) => [card.series.id, card]));
      this.#listed = true;
      if (this.#querying) this.#requery();
      else await this.#query(time.range.kind === 'all');
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#listing = false;
    }
  }

  async #query(search: boolean): Promise<void> {
    if (this.#closed || this.#querying || !this.#listed) return;
    this.#querying = true;
    this.#abort = new AbortController();
    const signal = this.#abort.signal;
    this.#tail = [];
    try {
      if (search) await this.#findStart(signal);
      this.#moveSpan();
      const due = this.cards.filter((card) => card.due);
      // What comes late from here on makes them due again.
      for (const card of due) card.due = false;
      const { from, to } = this.span;
      const [answer, tracks, doubts] = await Promise.all([
        this.#buckets(from, to, signal),
        Promise.all(due.map((card) => this.#track(card.series.id, from, to, signal))),
        this.#doubtsDue ? this.#doubts(from, to, signal) : undefined,
      ]).catch((error: unknown) => {
        for (const card of due) card.due = true;
        throw error;
      });
      if (signal.aborted) return;
      this.#feed.flush();
      due.forEach((card, i) => { card.track = tracks[i]; });
      if (doubts !== undefined) {
        this.#doubtsDue = false;
        for (const card of this.cards) card.doubts = card.track === null && doubts ? (doubts.get(card.series.id) ?? []) : null;
      }
      this.#take(answer);
      const paced = this.cards.filter((card) => card.track === null).map(({ series, buckets, last }) => ({ id: series.id, buckets, last }));
      void this.paces.learn(paced, this.span, time.now(), signal).then((found) => { this.#dirty ||= found; });
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
    } finally {
      if (!signal.aborted) {
        this.#querying = false;
        this.#queriedAt = performance.now();
      }
    }
  }

  /** The buckets of the numbers, and what is said beside them; the latter alone where there are no numbers. */
  async #buckets(from: number, to: number, signal: AbortSignal): Promise<api.QueryAnswer> {
    const ids = this.#numbers();
    if (ids.length > 0) return api.query(ids, from, to, BUCKETS, signal);
    if (this.cards.length === 0) return { series: [], gaps: [], restamped: [], late: [], partial: false };
    return { ...await api.rawRows([this.cards[0].series.id], from, to, 1, signal), series: [] };
  }

  #numbers(): string[] {
    return this.cards.filter((card) => card.track === null).map((card) => card.series.id);
  }

  async #doubts(from: number, to: number, signal: AbortSignal): Promise<Map<string, Doubt[]> | null> {
    if (to - from > DOUBTS_SPAN_MAX_MS) return null;
    const ids = this.#numbers();
    const parts: Promise<api.RawAnswer>[] = [];
    for (let at = 0; at < ids.length; at += api.QUERY_SERIES_MAX) {
      parts.push(api.rawRows(ids.slice(at, at + api.QUERY_SERIES_MAX), from, to, DOUBTS_ROWS_MAX, signal));
    }
    return doubtsOf(await Promise.all(parts));
  }

  async #track(id: string, from: number, to: number, signal: AbortSignal): Promise<Track> {
    const track = await loadTrack(from, to, async (start, end) => toPage(await api.rawRows([id], start, end, STATE_ROWS_MAX, signal)));
    if (track.cut !== null || track.bands.length > 0) return track;
    // Nothing was said for long: the newest reading of all may tell what holds.
    const last = this.#byId.get(id)?.last;
    if (last && last.t < from) appendLive(track, { t: last.t, v: last.v ?? null, quality: last.quality ?? 'good' });
    return track;
  }

  async #findStart(signal: AbortSignal): Promise<void> {
    const firsts: number[] = [];
    const numbers = this.#numbers();
    if (numbers.length > 0) {
      const start = await findStart(api.hubNow(), async (from, to) => {
        const answer = await api.query(numbers, from, to, BUCKETS, signal);
        const starts = answer.series.filter((s) => s.t.length > 0).map((s) => s.t[0]);
        return starts.length > 0 ? Math.min(...starts) : null;
      });
      if (start !== null) firsts.push(start);
    }
    const states = this.cards.filter((card) => card.track !== null);
    const answers = await Promise.all(states.map((card) => api.rawRows([card.series.id], 0, api.hubNow(), 1, signal)));
    firsts.push(...answers.flatMap((answer) => answer.series.flatMap((columns) => columns.t)));
    if (firsts.length > 0) this.#start = Math.min(...firsts);
  }

  #take(answer: api.QueryAnswer): void {
    const answered = new Map(answer.series.map((columns) => [columns.id, columns]));
    for (const card of this.cards) {
      const columns = answered.get(card.series.id);
      card.buckets = columns ? fromColumns(columns) : emptyBuckets();
      card.tier = columns?.tier ?? '';
    }
    // What came while the query was under way may be newer than its answer. A reading
    // that the answer's newest bucket already holds weighs twice in that bucket's mean
    // until the next query; its minimum and maximum stay right.
    for (const reading of this.#tail) this.#merge(reading);
    this.#tail = [];
    this.gaps = answer.gaps;
    this.restamped = answer.restamped;
    this.late = answer.late;
    this.partial = answer.partial;
    this.missing = answer.missing ?? [];
    this.loaded = true;
    this.error = '';
    this.#draw();
  }

  /** Merges one reading; true if only a new query can place it. */
  #merge({ id, t, v, quality }: Reading): boolean {
    const card = this.#byId.get(id);
    if (!card) return false;
    if (!card.last || t >= card.last.t) card.last = quality === 'good' ? { t, v } : { t, v, quality };
    if (t < this.span.from || (time.isFixed && t > this.span.to)) return false;
    if (card.track) {
      const late = appendLive(card.track, { t, v, quality }) === 'late';
      if (late) card.due = true;
      else this.#dirty = true;
      return late;
    }
    const what = doubtOf(v, quality);
    if (what !== null && card.doubts) {
      addDoubt(card.doubts, { t, what });
      this.#dirty = true;
    }
    // Buckets are of numbers of good quality, as the hub has it.
    const number = typeof v === 'boolean' ? Number(v) : v;
    if (typeof number !== 'number' || quality !== 'good') return false;
    const late = mergeLive(card.buckets, this.width, t, number) === 'late';
    if (!late) this.#dirty = true;
    return late;
  }

  #readings(data: LiveReadings): void {
    let late = false;
    let unknown = false;
    for (const { id, t, v, quality } of data.series) {
      if (!this.#byId.has(id)) {
        unknown ||= id.startsWith(`${this.id}/`);
        continue;
      }
      for (let i = 0; i < t.length; i += 1) {
        const reading = { id, t: t[i], v: v[i], quality: quality?.[i] ?? 'good' };
        if (this.#querying && this.#tail.length < TAIL_MAX) this.#tail.push(reading);
        late = this.#merge(reading) || late;
      }
    }
    if (late) this.#requery();
    if (unknown && this.loaded) void this.#loadSeries();
  }

  #gap(gap: QueryGap): void {
    if (gap.device !== this.id) return;
    this.gaps = [...this.gaps, gap];
    this.#dirty = true;
    this.#allDue();
    this.#requery();
  }

  /** Asks for a query soon, at most one per REQUERY_MS however many ask. */
  #requery(): void {
    if (this.#timer !== undefined || this.#closed) return;
    const wait = Math.max(0, this.#queriedAt + REQUERY_MS - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      // A query under way may have been answered before the late reading was stored.
      if (this.#querying) {
        this.#queriedAt = performance.now();
        this.#requery();
      } else {
        void this.#query(false);
      }
    }, wait);
  }

  #frame(): void {
    if (document.hidden || this.#closed || time.pausedAt !== null) return;
    const now = api.hubNow();
    if (now - this.now >= 1000 || now < this.now) this.now = now;
    if (performance.now() - this.#heardAt > REFETCH_MS) {
      if (this.error) this.#again();
      else void this.#loadDevice();
    }
    const length = this.span.to - this.span.from;
    const moved = !time.isFixed && now - this.span.to >= Math.max(1000, length / 1000);
    if (moved || this.#dirty) this.#draw();
    // Live readings fill buckets only roughly: now and then the hub's own are taken.
    const idle = performance.now() - this.#queriedAt;
    if (this.loaded && idle > Math.min(10 * MINUTE, Math.max(30_000, length / 10))) {
      if (performance.now() - this.#statesAt > STATES_MS) this.#allDue();
      this.#requery();
    }
  }

  #draw(): void {
    this.#moveSpan();
    for (const card of this.cards) {
      trimBefore(card.buckets, this.span.from);
      if (card.track) trimStates(card.track, this.span.from);
      if (card.doubts) trimDoubts(card.doubts, this.span.from);
    }
    this.#dirty = false;
    this.version += 1;
  }

  #fail(error: unknown): void {
    if (error instanceof DOMException && error.name === 'AbortError') return;
    this.error = error instanceof Error ? error.message : String(error);
  }
}
