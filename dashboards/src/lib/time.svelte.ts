// The time of the page: which range all its charts show, and whether they stand
// still. It is kept from page to page, and the address has it.
import { hubNow } from '../api/client';
import { router } from './router.svelte';
import { FIRST, fixed, fromParams, isSame, lengthText, parseRange, shift, spanOf, toParams, zoomOut, ZONES, type Range, type Span, type Zone } from './time';
import { zone } from './zone.svelte';

class PageTime {
  range = $state.raw<Range>(FIRST);
  /** When it was made to stand still (Unix ms); null while it goes along. */
  pausedAt = $state<number | null>(null);
  /** The last range that went along with now, to go back to. */
  #moving = $state.raw<Range>(FIRST);

  /** The end of ranges that go along: the hub's time, or when it was made to stand still. */
  now(): number {
    return this.pausedAt ?? hubNow();
  }

  span(start: number | null): Span {
    return spanOf(this.range, this.now(), start);
  }

  /** Whether the range stays where it is while time goes on. */
  get isFixed(): boolean {
    return this.range.kind === 'fixed';
  }

  /** The name of the range to go back to. */
  get movingName(): string {
    return this.#moving.kind === 'last' ? lengthText(this.#moving.ms) : 'all';
  }

  choose(range: Range): void {
    this.#take(range);
    router.put({ range: null, from: null, to: null, ...toParams(range), tz: zone.name }, 'step');
  }

  zoomTo(from: number, to: number): void {
    this.choose(fixed(from, to));
  }

  shift(direction: -1 | 1): void {
    this.choose(shift(this.range, this.now(), direction));
  }

  zoomOut(): void {
    this.choose(zoomOut(this.range, this.now()));
  }

  /** Back to the range that went along with now. */
  release(): void {
    this.choose(this.#moving);
  }

  pause(on: boolean): void {
    this.pausedAt = on ? hubNow() : null;
  }

  chooseZone(name: Zone): void {
    zone.choose(name);
    router.put({ tz: name }, 'step');
  }

  /** The range that a page begins with, by its name, where the address names none. */
  begin(params: URLSearchParams, name: string | null): void {
    const range = fromParams(params) === null && name !== null ? parseRange(name) : null;
    if (range !== null) this.#take(range);
  }

  /** Takes what an address says; what it does not say stays as it is, and is written to it. */
  follow(params: URLSearchParams): void {
    const named = fromParams(params);
    if (named !== null && !isSame(named, this.range)) this.#take(named);
    const tz = ZONES.find((one) => one === params.get('tz'));
    if (tz !== undefined && tz !== zone.name) zone.name = tz;
    const said = { range: null, from: null, to: null, ...toParams(this.range) };
    if (named === null || tz === undefined) router.put({ ...said, tz: zone.name }, 'replace');
  }

  #take(range: Range): void {
    this.range = range;
    if (range.kind !== 'fixed') this.#moving = range;
  }
}

export const time = new PageTime();
