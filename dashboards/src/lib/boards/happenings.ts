// What happened to devices, to be marked in charts: when their agents came back, and when what is
// wanted of them was changed. All panels of a page share what was asked for one device and range.
import * as api from '../../api/client';
import type { Span } from '../time';

export interface Happening { t: number; text: string }
export type Mark = 'restarts' | 'configuration';

/** An answer is taken for so long, however many panels look and however often they are drawn. */
const FRESH_MS = 10_000;
/** Answers kept; the ones that were asked for first go first. */
const KEPT_MAX = 512;

interface Asked { at: number; span: Span; found: Promise<Happening[]> }

const nothing = (): Happening[] => [];

/** The questions of one page: each once for all who ask at once, and no more often than each ten seconds. */
export class Happenings {
  #asked = new Map<string, Asked>();
  #abort = new AbortController();

  close(): void {
    this.#abort.abort();
  }

  /** Of each device in order of time; one that cannot be asked has nothing to tell, and its readings are shown without. `open`: the range goes along with now. */
  async of(devices: string[], marks: Mark[], span: Span, open: boolean): Promise<Happening[]> {
    const parts = devices.flatMap((device) => marks.map((mark) => this.#one(device, mark, open ? { from: span.from, to: Number.POSITIVE_INFINITY } : span)));
    const found = (await Promise.all(parts)).flat();
    // Several keys of one moment are one mark each text.
    return [...new Map(found.map((one) => [`${one.t} ${one.text}`, one])).values()].sort((a, b) => a.t - b.t);
  }

  #one(device: string, mark: Mark, span: Span): Promise<Happening[]> {
    const key = `${mark} ${device}`;
    const known = this.#asked.get(key);
    // A range that went along is within the one that was asked for.
    if (known && performance.now() - known.at < FRESH_MS && known.span.from <= span.from && known.span.to >= span.to) return known.found;
    const found = (mark === 'restarts' ? this.#returns(device) : this.#changes(device, span)).catch(nothing);
    this.#asked.delete(key);
    // All that is told of presence is told at once.
    const all = mark === 'restarts' ? { from: Number.NEGATIVE_INFINITY, to: Number.POSITIVE_INFINITY } : span;
    this.#asked.set(key, { at: performance.now(), span: all, found });
    for (const [oldest] of this.#asked) {
      if (this.#asked.size <= KEPT_MAX) break;
      this.#asked.delete(oldest);
    }
    return found;
  }

  async #returns(device: string): Promise<Happening[]> {
    const { events } = await api.deviceEvents(device, this.#abort.signal);
    return events.filter(({ change }) => change === 'online').map(({ at_ms }) => ({ t: at_ms, text: `${device} came back` }));
  }

  async #changes(device: string, { from, to }: Span): Promise<Happening[]> {
    const steps = await api.twinHistory(device, this.#abort.signal, { key: 'desired', from, to });
    return steps.filter(({ section }) => section === 'desired').map(({ time_ms, taken_ms, key }) => ({ t: taken_ms ?? time_ms, text: `${device}: ${key} was set` }));
  }
}
