// The state of the explore page: the series chosen, their buckets and figures over
// the page's time and over an earlier period, and the live readings of what ends now.
import * as api from '../api/client';
import type { AggregateAnswer, LateRange, LiveReadings, Missing, QueryAnswer, QueryGap, Restamped, Series } from '../api/client';
import { lastReadings, type LastReading, type Lasts } from '../api/last';
import { LiveFeed } from '../api/live';
import { addDoubt, doubtOf, doubtsOf, DOUBTS_ROWS_MAX, DOUBTS_SPAN_MAX_MS, together, trimDoubts, type Doubt } from './doubts';
import { Paces } from './paces';
import { LINES_MAX, refusal, type Line } from './overlay';
import { emptyBuckets, findStart, fromColumns, mergeLive, trimBefore } from './series';
import { status } from './status.svelte';
import type { Span } from './time';
import { time } from './time.svelte';

/** Buckets asked for: about one for two pixels of a wide chart. */
const BUCKETS = 500;
const FRAME_MS = 500;
/** A new query comes no sooner than this after one. */
const REQUERY_MS = 2000;
/** Live readings fill buckets only roughly: so often the hub's own are taken, and the figures with them. */
const REFRESH_MS = 30_000;
/** Events kept while a query is under way; beyond it the next query tells. */
const TAIL_MAX = 1000;
export const FIGURES = ['count', 'min', 'max', 'mean', 'p50', 'p95', 'first', 'last'];

export class Explore {
  chosen = $state.raw<Series[]>([]);
  /** Named by the address, and not there or not shown. */
  unknown = $state.raw<string[]>([]);
  lines = $state.raw<Line[]>([]);
  figures = $state.raw<AggregateAnswer | null>(null);
  earlierFigures = $state.raw<AggregateAnswer | null>(null);
  /** How far back the earlier period begins (ms); 0 compares with none. */
  offset = $state(0);
  span = $state.raw<Span>(time.span(null));
  gaps = $state.raw<QueryGap[]>([]);
  restamped = $state.raw<Restamped[]>([]);
  late = $state.raw<LateRange[]>([]);
  partial = $state(false);
  missing = $state.raw<Missing[]>([]);
  /** When the figures were asked for (Unix ms). */
  askedAt = $state(0);
  /** Of series that say little in the range. */
  readonly paces = new Paces();
  /** The newest reading of each, of all times. */
  lasts = $state.raw<Lasts>(new Map());
  now = $state(time.now());
  busy = $state(false);
  error = $state('');
  version = $state(0);
  /** Readings that are not good, by series; null where they are not known. */
  #doubts: Map<string, Doubt[]> | null = null;

  #feed: LiveFeed | null = null;
  #abort = new AbortController();
  #frames = setInterval(() => this.#frame(), FRAME_MS);
  #start: number | null = null;
  #queriedAt = 0;
  #stale = false;
  #dirty = false;
  /** What came while a query was under way: it may be newer than the answer. */
  #tail: LiveReadings[] = [];

  close(): void {
    clearInterval(this.#frames);
    this.#feed?.close();
    this.#abort.abort();
  }

  get ids(): string[] {
    return this.chosen.map((series) => series.id);
  }

  /** Readings that are not good, of all series in order of time. */
  get doubtful(): Doubt[] {
    void this.version;
    return this.#doubts === null ? [] : together(this.#doubts);
  }

  /** The width of the buckets asked for; the hub's own may be somewhat larger. */
  get width(): number {
    return Math.max(1, Math.ceil((this.span.to - this.span.from) / BUCKETS));
  }

  /** Takes the series that the address names; what each is, the hub is asked for. */
  async name(ids: string[]): Promise<void> {
    const wanted = ids.slice(0, LINES_MAX);
    if (wanted.join() === this.ids.join()) return;
    const devices = [...new Set(wanted.map((id) => id.slice(0, id.indexOf('/'))))];
    try {
      const lists = await Promise.all(devices.map((device) => api.seriesOf(device)));
      const all = new Map(lists.flat().map((series) => [series.id, series]));
      const chosen: Series[] = [];
      for (const id of wanted) {
        const series = all.get(id);
        if (series && refusal(series, chosen) === null) chosen.push(series);
      }
      this.unknown = ids.filter((id) => !chosen.some((series) => series.id === id));
      this.take(chosen);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Shows these series. */
  take(chosen: Series[]): void {
    this.chosen = chosen;
    this.#start = null;
    this.lines = this.lines.filter((line) => chosen.some((series) => series.id === line.id));
    this.#listen();
    this.restart();
  }

  compare(offset: number): void {
    this.offset = offset;
    this.restart();
  }

  pause(on: boolean): void {
    this.#feed?.hold(on);
  }

  /** Asks for everything, after what is shown was chosen anew. */
  restart(): void {
    this.#abort.abort();
    this.span = time.span(this.#start);
    this.version += 1;
    void this.#query();
  }

  #listen(): void {
    this.#feed?.close();
    this.#feed = null;
    if (this.chosen.length === 0) {
      status.live = 'idle';
      return;
    }
    this.#feed = new LiveFeed({ series: this.ids.join(',') }, {
      state: (state) => { status.live = state; },
      resync: () => { this.#stale = true; },
      readings: (data) => this.#readings(data),
      gap: () => { this.#stale = true; },
    });
    this.#feed.hold(time.pausedAt !== null);
  }

  async #query(): Promise<void> {
    this.#stale = false;
    this.#queriedAt = performance.now();
    if (this.chosen.length === 0) {
      this.lines = [];
      this.figures = null;
      return;
    }
    this.#abort = new AbortController();
    const signal = this.#abort.signal;
    this.busy = true;
    this.#tail = [];
    try {
      if (time.range.kind === 'all') await this.#findStart(signal);
      const [span, asked] = [time.span(this.#start), time.now()];
      const before = this.offset > 0 ? { from: span.from - this.offset, to: span.to - this.offset } : null;
      const short = span.to - span.from <= DOUBTS_SPAN_MAX_MS;
      const [answer, earlier, figures, earlierFigures, doubts, lasts] = await Promise.all([
        api.query(this.ids, span.from, span.to, BUCKETS, signal),
        before && api.query(this.ids, before.from, before.to, BUCKETS, signal),
        api.statistics(this.ids, FIGURES, span.from, span.to, signal),
        before && api.statistics(this.ids, FIGURES, before.from, before.to, signal),
        short ? api.rawRows(this.ids, span.from, span.to, DOUBTS_ROWS_MAX, signal) : null,
        time.isFixed ? null : lastReadings(this.ids, signal),
      ]);
      if (signal.aborted) return;
      this.#feed?.flush();
      this.span = span;
      this.askedAt = asked;
      this.lines = this.chosen.map((series) => lineOf(series, answer, earlier));
      this.#doubts = doubts === null ? null : doubtsOf([doubts]);
      for (const [id, last] of lasts ?? []) this.#newest(id, last);
      this.figures = figures;
      this.earlierFigures = earlierFigures;
      this.gaps = answer.gaps;
      this.restamped = answer.restamped;
      this.late = answer.late;
      this.partial = answer.partial || earlier?.partial === true || figures.partial;
      this.missing = [...(answer.missing ?? []), ...(earlier?.missing ?? [])];
      for (const data of this.#tail) this.#merge(data);
      this.#tail = [];
      this.error = '';
      this.version += 1;
      const paced = this.lines.map(({ id, buckets }) => ({ id, buckets, last: this.lasts.get(id) }));
      if (!time.isFixed) void this.paces.learn(paced, span, asked, signal).then((found) => { this.#dirty ||= found; });
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
    } finally {
      if (!signal.aborted) {
        this.busy = false;
        this.#queriedAt = performance.now();
      }
    }
  }

  async #findStart(signal: AbortSignal): Promise<void> {
    this.#start = await findStart(time.now(), async (from, to) => {
      const answer = await api.query(this.ids, from, to, BUCKETS, signal);
      const starts = answer.series.flatMap(({ t }) => t.slice(0, 1));
      return starts.length > 0 ? Math.min(...starts) : null;
    });
  }

  #readings(data: LiveReadings): void {
    if (this.busy && this.#tail.length < TAIL_MAX) this.#tail.push(data);
    this.#merge(data);
  }

  /** A reading that the answer's newest bucket has already weighs twice in its mean until the next query. */
  #merge(data: LiveReadings): void {
    for (const { id, t, v, quality } of data.series) {
      const line = this.lines.find((one) => one.id === id);
      if (!line) continue;
      t.forEach((at, i) => {
        this.#newest(id, { t: at, v: v[i] ?? null });
        if (at < this.span.from || (time.isFixed && at > this.span.to)) return;
        const what = doubtOf(v[i], quality?.[i] ?? 'good');
        if (what !== null) this.#doubt(id, { t: at, what });
        const number = typeof v[i] === 'boolean' ? Number(v[i]) : v[i];
        // Buckets are of numbers of good quality, as the hub has it.
        if (typeof number !== 'number' || (quality?.[i] ?? 'good') !== 'good') return;
        if (mergeLive(line.buckets, this.width, at, number) === 'late') this.#stale = true;
        else this.#dirty = true;
      });
    }
  }

  /** Told at once, since few are shown and they come at most four times a second. */
  #newest(id: string, reading: LastReading): void {
    const known = this.lasts.get(id);
    if (known && known.t >= reading.t) return;
    this.lasts = new Map(this.lasts).set(id, reading);
  }

  #doubt(id: string, doubt: Doubt): void {
    if (this.#doubts === null) return;
    const own = this.#doubts.get(id) ?? [];
    addDoubt(own, doubt);
    this.#doubts.set(id, own);
    this.#dirty = true;
  }

  #frame(): void {
    if (document.hidden || time.pausedAt !== null || this.chosen.length === 0) return;
    const now = time.now();
    if (now - this.now >= 1000 || now < this.now) this.now = now;
    if (this.busy) return;
    const moved = !time.isFixed && now - this.span.to >= Math.max(1000, (this.span.to - this.span.from) / 1000);
    if (moved || this.#dirty) {
      this.span = time.span(this.#start);
      for (const line of this.lines) trimBefore(line.buckets, this.span.from);
      for (const own of this.#doubts?.values() ?? []) trimDoubts(own, this.span.from);
      this.#dirty = false;
      this.version += 1;
    }
    const idle = performance.now() - this.#queriedAt;
    // What is fixed changes only when readings come late; then the feed tells.
    if (idle > (this.#stale ? REQUERY_MS : REFRESH_MS) && (this.#stale || this.error !== '' || !time.isFixed)) void this.#query();
  }

  #fail(error: unknown): void {
    if (error instanceof DOMException && error.name === 'AbortError') return;
    this.error = error instanceof Error ? error.message : String(error);
  }
}

function lineOf(series: Series, answer: QueryAnswer, earlier: QueryAnswer | null): Line {
  const own = answer.series.find(({ id }) => id === series.id);
  const before = earlier?.series.find(({ id }) => id === series.id);
  return {
    id: series.id,
    unit: series.unit,
    whole: series.type === 'int' || series.type === 'bool',
    buckets: own ? fromColumns(own) : emptyBuckets(),
    tier: own?.tier ?? '',
    earlier: earlier ? (before ? fromColumns(before) : emptyBuckets()) : null,
    earlierTier: before?.tier ?? '',
  };
}
