// Lets keys read a chart: they move its cursor, and those of the page's other charts, as a mouse does, and what is told under the mouse is told then.
import type uPlot from 'uplot';
import { timeBy } from './cursor';

/** Outside of the chart. */
const AWAY = { left: -10, top: -10 };

/** As it is: the last argument, which its types leave out, tells the other charts of the page, as a mouse does. */
type Pointed = (to: { left: number; top: number }, fire: boolean, tell: boolean) => void;

/** Moves the cursor of a chart to a time, and of all that share it; null takes it away. */
export function pointAt(plot: uPlot, at: number | null): void {
  const point = plot.setCursor as Pointed;
  point(at === null ? AWAY : { left: plot.valToPos(at, 'x'), top: plot.over.clientHeight / 2 }, true, true);
}

export class Keyed {
  /** Where the keys have the cursor (Unix ms); null where they do not. */
  at = $state<number | null>(null);
  readonly #plot: () => uPlot | null;
  readonly #times: () => number[];

  constructor(plot: () => uPlot | null, times: () => number[]) {
    this.#plot = plot;
    this.#times = times;
  }

  key = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const next = timeBy(this.#times(), this.at, event.key);
    if (next === undefined) return;
    event.preventDefault();
    this.at = next;
    this.point();
  };

  leave = (): void => {
    if (this.at === null) return;
    this.at = null;
    this.point();
  };

  /** Shows the cursor where the keys have it, also after the chart was drawn anew. */
  point(): void {
    const plot = this.#plot();
    if (plot) pointAt(plot, this.at);
  }

  /** After the chart was drawn anew: time went on beneath the cursor. */
  again(): void {
    if (this.at !== null) this.point();
  }
}
