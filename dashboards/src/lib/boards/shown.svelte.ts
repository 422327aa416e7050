// What a board shows: the series that its names mean, their buckets and states over the page's
// time, and the live readings of all panels by one event stream.
import * as api from '../../api/client';
import type { LateRange, LiveReadings, Missing, QueryGap, Restamped, Series } from '../../api/client';
import { seriesOfNames, type Board, type BoardSeries, type Variable } from '../../api/boards';
import { LiveFeed } from '../../api/live';
import { lastReadings, newer, type Lasts } from '../../api/last';
import { findStart, fromColumns, type Buckets } from '../series';
import { Paces } from '../paces';
import { status } from '../status.svelte';
import type { Span } from '../time';
import { time } from '../time.svelte';
import { zone } from '../zone.svelte';
import { Happenings } from './happenings';
import { hoursOf } from './hours';
import { hasStates, layReadings, makeSeen, trackOf, trimSeen, type Seen } from './seen';

/** Buckets asked for: a panel is seldom wider. */
const BUCKETS = 400;
/** Series of one board at most; each is asked for and followed. */
export const SERIES_MAX = 128;
const FRAME_MS = 500;
/** A new query comes no sooner than this after one. */
const REQUERY_MS = 2000;
/** Live readings fill buckets only roughly: so often the hub's own are taken. */
const REFRESH_MS = 30_000;
/** So often the names are looked up again: devices come and go. */
const NAMES_MS = 120_000;
/** Events kept while a query is under way; beyond it the next query tells. */
const TAIL_MAX = 1000;

export interface Meant { ids: string[]; leftOff: number }
/** What names mean; `seriesOfNames`, or what a link shows. */
export type Names = (patterns: string[], variables: Variable[], values: Record<string, string>) => Promise<BoardSeries>;
/** The newest reading of each series, by one question. */
export type LastOf = (ids: string[], signal: AbortSignal) => Promise<Lasts>;

export function patternsOf(board: Board): string[] {
  return [...new Set(board.panels.flatMap(({ show }) => ('series' in show ? show.series : [])))];
}

export class Shown {
  board = $state.raw<Board | null>(null);
  meant = $state.raw<Map<string, Meant>>(new Map());
  seen = $state.raw<Map<string, Seen>>(new Map());
  span = $state.raw<Span>(time.span(null));
  gaps = $state.raw<QueryGap[]>([]);
  restamped = $state.raw<Restamped[]>([]);
  late = $state.raw<LateRange[]>([]);
  thinnedTo = $state<number | null>(null);
  partial = $state(false);
  missing = $state.raw<Missing[]>([]);
  loaded = $state(false);
  error = $state('');
  /** Whether the link that it is shown by has ended meanwhile: nothing is asked for any more. */
  ended = $state(false);
  version = $state(0);
  now = $state(time.now());
  /** When what is shown was asked for (Unix ms). */
  askedAt = $state(0);
  /** As of when what is shown is (Unix ms): now, as long as the feed brings what is new. */
  asOf = $state(0);

  /** Of series that say little in the range. */
  readonly paces = new Paces();
  /** What is marked in charts, asked for once for all panels. */
  readonly happenings = new Happenings();
  readonly #names: Names;
  readonly #lastOf: LastOf;
  /** Of its variables. */
  values = $state.raw<Record<string, string>>({});
  #feed: LiveFeed | null = null;
  #followed = '';
  #abort = new AbortController();
  #frames = setInterval(() => this.#frame(), FRAME_MS);
  #start: number | null = null;
  #busy = false;
  #stale = false;
  #dirty = false;
  #queriedAt = 0;
  #namedAt = 0;
  #asked = '';
  #tail: LiveReadings[] = [];

  constructor(names: Names = seriesOfNames, lastOf: LastOf = lastReadings) {
    this.#names = names;
    this.#lastOf = lastOf;
  }

  close(): void {
    clearInterval(this.#frames);
    this.happenings.close();
    this.#feed?.close();
    this.#abort.abort();
  }

  /** The width of the buckets asked for; the hub's own may be somewhat larger. */
  get width(): number {
    return Math.max(1, Math.ceil((this.span.to - this.span.from) / BUCKETS));
  }

  get newest(): number | null {
    void this.version;
    return Math.max(0, ...[...this.seen.values()].map((one) => one.last?.t ?? 0)) || null;
  }

  /** The series of a panel, each once, and how many its names mean besides. */
  of(patterns: string[]): { all: Seen[]; leftOff: number } {
    const ids = [...new Set(patterns.flatMap((pattern) => this.meant.get(pattern)?.ids ?? []))];
    const all = ids.flatMap((id) => this.seen.get(id) ?? []);
    return { all, leftOff: ids.length - all.length + patterns.reduce((sum, pattern) => sum + (this.meant.get(pattern)?.leftOff ?? 0), 0) };
  }

  /** Shows a board with these values of its variables; asks only for what is new. */
  show(board: Board, values: Record<string, string>): void {
    this.board = board;
    this.values = values;
    const asked = JSON.stringify([patternsOf(board), board.variables ?? [], values, this.#hourly()]);
    if (asked === this.#asked) return;
    this.#asked = asked;
    void this.#look();
  }

  /** Asks for everything, after another range was chosen. */
  restart(): void {
    this.span = time.span(this.#start);
    this.version += 1;
    void this.#query();
  }

  pause(on: boolean): void {
    this.#feed?.hold(on);
    this.now = time.now();
  }

  async #look(): Promise<void> {
    const { board } = this;
    if (board === null) return;
    this.#namedAt = performance.now();
    const asked = this.#asked;
    try {
      const patterns = patternsOf(board);
      const found = patterns.length === 0 ? { patterns: [], series: [] } : await this.#names(patterns, board.variables ?? [], this.values);
      if (asked !== this.#asked) return;
      const known = found.series.slice(0, SERIES_MAX);
      this.meant = new Map(found.patterns.map((one) => [one.pattern, { ids: one.series, leftOff: one.left_off }]));
      this.seen = new Map(known.map((series) => [series.id, this.seen.get(series.id) ?? makeSeen(series)]));
      this.#listen();
      await this.#query();
    } catch (error) {
      this.#fail(error);
    }
  }

  #listen(): void {
    const ids = [...this.seen.keys()].join(',');
    if (ids === this.#followed) return;
    this.#followed = ids;
    this.#feed?.close();
    this.#feed = null;
    if (ids === '') {
      status.live = 'idle';
      return;
    }
    this.#feed = new LiveFeed({ series: ids }, {
      state: (state) => { status.live = state; },
      resync: () => { this.#stale = true; },
      readings: (data) => this.#readings(data),
      gap: () => { this.#stale = true; },
    });
    this.#feed.hold(time.pausedAt !== null);
  }

  #ids(wanted: (series: Series) => boolean): string[] {
    return [...this.seen.values()].filter((one) => wanted(one.series)).map((one) => one.series.id);
  }

  /** The names of maps of hours and days: their buckets are hours or parts of them, whatever the others' are. */
  #hourly(): string[] {
    return (this.board?.panels ?? []).flatMap(({ show }) => (show.kind === 'heat' && show.by === 'hour_day' ? show.series : []));
  }

  async #query(): Promise<void> {
    this.#abort.abort();
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    this.#stale = false;
    this.#busy = true;
    this.#tail = [];
    try {
      const numbers = this.#ids((series) => series.type !== 'text');
      if (time.range.kind === 'all' && numbers.length > 0) await this.#findStart(numbers, signal);
      const [span, asked] = [time.span(this.#start), time.now()];
      const states = this.#ids(hasStates);
      const [answer, tracks, hours, lasts] = await Promise.all([
        numbers.length > 0 ? api.query(numbers, span.from, span.to, BUCKETS, signal) : null,
        Promise.all(states.map((id) => trackOf(id, span, signal))),
        this.#hours(span, signal),
        // What is fixed has its last values in its buckets.
        time.isFixed ? null : this.#lastOf([...this.seen.keys()], signal),
      ]);
      if (signal.aborted) return;
      this.#feed?.flush();
      this.span = span;
      this.askedAt = asked;
      this.asOf = asked;
      for (const columns of answer?.series ?? []) {
        const one = this.seen.get(columns.id);
        if (one) Object.assign(one.line, { buckets: fromColumns(columns), tier: columns.tier });
      }
      states.forEach((id, i) => { const one = this.seen.get(id); if (one) one.track = tracks[i]; });
      for (const [id, buckets] of hours) { const one = this.seen.get(id); if (one) one.hours = buckets; }
      for (const one of this.seen.values()) one.last = newer(one.last, lasts?.get(one.series.id));
      this.gaps = answer?.gaps ?? [];
      this.restamped = answer?.restamped ?? [];
      this.late = answer?.late ?? [];
      this.thinnedTo = answer?.thinned_to ?? null;
      this.partial = answer?.partial ?? false;
      this.missing = answer?.missing ?? [];
      for (const data of this.#tail) this.#merge(data);
      this.#tail = [];
      this.loaded = true;
      this.error = '';
      this.version += 1;
      const paced = [...this.seen.values()].filter((one) => one.series.type !== 'text').map(({ line, last }) => ({ id: line.id, buckets: line.buckets, last }));
      if (!time.isFixed) void this.paces.learn(paced, span, asked, signal).then((found) => { this.#dirty ||= found; });
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
    } finally {
      if (!signal.aborted) {
        this.#busy = false;
        this.#queriedAt = performance.now();
      }
    }
  }

  async #hours(span: Span, signal: AbortSignal): Promise<Map<string, Buckets>> {
    const ids = [...new Set(this.#hourly().flatMap((pattern) => this.meant.get(pattern)?.ids.slice(0, 1) ?? []))].filter((id) => this.seen.get(id)?.series.type !== 'text');
    if (ids.length === 0) return new Map();
    const { from, to, buckets } = hoursOf(span, zone.iana);
    const answer = await api.query(ids, from, to, buckets, signal);
    return new Map(answer.series.map((columns) => [columns.id, fromColumns(columns)]));
  }

  async #findStart(ids: string[], signal: AbortSignal): Promise<void> {
    this.#start = await findStart(time.now(), async (from, to) => {
      const answer = await api.query(ids, from, to, BUCKETS, signal);
      const starts = answer.series.flatMap(({ t }) => t.slice(0, 1));
      return starts.length > 0 ? Math.min(...starts) : null;
    });
  }

  #readings(data: LiveReadings): void {
    if (this.#busy && this.#tail.length < TAIL_MAX) this.#tail.push(data);
    this.#merge(data);
  }

  #merge(data: LiveReadings): void {
    for (const { id, t, v, quality } of data.series) {
      const one = this.seen.get(id);
      if (!one) continue;
      // What is beyond a fixed range is not shown; what goes along goes on.
      const late = layReadings(one, { id, t, v, quality }, time.isFixed ? this.span : { from: this.span.from, to: Number.POSITIVE_INFINITY }, this.width);
      this.#stale ||= late;
      this.#dirty = true;
    }
  }

  #frame(): void {
    if (document.hidden || time.pausedAt !== null || this.board === null) return;
    const now = time.now();
    if (now - this.now >= 1000 || now < this.now) this.now = now;
    if (this.loaded && !this.#stale && this.error === '' && status.live === 'live') this.asOf = this.now;
    const moved = !time.isFixed && now - this.span.to >= Math.max(1000, (this.span.to - this.span.from) / 1000);
    if (moved || this.#dirty) {
      this.span = time.span(this.#start);
      for (const one of this.seen.values()) trimSeen(one, this.span.from);
      this.#dirty = false;
      this.version += 1;
    }
    if (this.#busy) return;
    if (performance.now() - this.#namedAt > NAMES_MS) return void this.#look();
    const idle = performance.now() - this.#queriedAt;
    if (idle > (this.#stale ? REQUERY_MS : REFRESH_MS) && (this.#stale || this.error !== '' || !time.isFixed)) {
      void (this.loaded ? this.#query() : this.#look());
    }
  }

  #fail(error: unknown): void {
    if (error instanceof DOMException && error.name === 'AbortError') return;
    this.error = error instanceof Error ? error.message : String(error);
    this.#queriedAt = performance.now();
    if (error instanceof api.ApiError && error.code === 'share-ended') {
      this.ended = true;
      this.close();
      status.live = 'idle';
    }
  }
}
