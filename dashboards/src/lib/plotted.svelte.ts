// Keeps a plot in an element of the page: as wide as there is room, drawn only
// while it can be seen, and made anew when it is to look otherwise.
import { untrack } from 'svelte';
import type uPlot from 'uplot';
import { theme } from './theme.svelte';
import { zone } from './zone.svelte';

/** A narrower plot has no room for its axes. */
const WIDTH_MIN_PX = 120;
/** What is this near to the screen is drawn already. */
const NEAR = '200px';

export interface Plotter {
  height(): number;
  make(element: HTMLElement, width: number): uPlot;
  update(plot: uPlot): void;
}

export class Plotted {
  width = $state(600);
  #plot: uPlot | undefined;
  #visible = false;
  readonly #plotter: Plotter;

  constructor(plotter: Plotter) {
    this.#plotter = plotter;
  }

  /** The plot, while there is one that can be seen. */
  get shown(): uPlot | null {
    return this.#visible && this.#plot ? this.#plot : null;
  }

  redraw(): void {
    if (this.shown) this.#plotter.update(this.shown);
  }

  /** An attachment: holds the plot as long as the element is there. */
  attach = (element: HTMLElement): (() => void) => {
    // A plot is painted with fixed colours and times: another theme or zone needs another plot.
    void theme.shown;
    void zone.iana;
    const room = (): number => Math.max(WIDTH_MIN_PX, element.clientWidth);
    untrack(() => {
      this.width = room();
      this.#plot = this.#plotter.make(element, this.width);
    });
    const sizes = new ResizeObserver(() => {
      this.width = room();
      this.#plot?.setSize({ width: this.width, height: this.#plotter.height() });
    });
    sizes.observe(element);
    const sight = new IntersectionObserver((entries) => {
      this.#visible = entries[entries.length - 1].isIntersecting;
      this.redraw();
    }, { rootMargin: NEAR });
    sight.observe(element);
    return () => {
      sight.disconnect();
      sizes.disconnect();
      this.#plot?.destroy();
      this.#plot = undefined;
    };
  };
}
