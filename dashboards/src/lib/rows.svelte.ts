// A long list of which only the rows that can be seen are in the page: what scrolls, and what the keyboard is on.
import { tick } from 'svelte';
import { windowOf, type Window } from './fleettable';

/** Until the first row is there to be measured. */
const ROW_PX = 31;

const MOVES: Record<string, (from: number, page: number, last: number) => number> = {
  ArrowDown: (from) => from + 1,
  ArrowUp: (from) => from - 1,
  PageDown: (from, page) => from + page,
  PageUp: (from, page) => from - page,
  Home: () => 0,
  End: (_from, _page, last) => last,
};

export class Rows {
  sheet = $state<HTMLElement>();
  body = $state<HTMLElement>();
  top = $state(0);
  height = $state(600);
  /** The height of one row. */
  row = $state(ROW_PX);
  /** The row that the keyboard is on. */
  at = $state(0);

  window(count: number): Window {
    return windowOf(this.top, this.height, this.row, count);
  }

  /** Rows have one height, which is another on a phone. */
  measure(): void {
    const first = this.body?.querySelector('tr');
    if (first && first.offsetHeight > 0) this.row = first.offsetHeight;
  }

  /** The room of the rows that are not drawn, set where the page's policy allows it. */
  room(el: HTMLElement, { above, below }: Window): void {
    el.style.paddingTop = `${above}px`;
    el.style.paddingBottom = `${below}px`;
  }

  /** Whether the tabulator stops at a drawn row: at that of the keyboard, or at the first where that one is not drawn. */
  isStop(index: number, { first, end }: Window): boolean {
    return index === this.at || (index === first && (this.at < first || this.at >= end));
  }

  /** Goes to the row that a key means, and to the first link or button in it. */
  async move(event: KeyboardEvent, count: number): Promise<void> {
    const next = MOVES[event.key] as ((from: number, page: number, last: number) => number) | undefined;
    if (next === undefined || !this.sheet || count === 0) return;
    event.preventDefault();
    const page = Math.max(1, Math.floor(this.height / this.row) - 2);
    this.at = Math.max(0, Math.min(count - 1, next(this.at, page, count - 1)));
    const head = this.sheet.querySelector('thead')?.offsetHeight ?? 0;
    const [above, below] = [this.at * this.row, (this.at + 1) * this.row + head];
    if (above < this.sheet.scrollTop) this.sheet.scrollTop = above;
    else if (below > this.sheet.scrollTop + this.height) this.sheet.scrollTop = below - this.height;
    this.top = this.sheet.scrollTop;
    await tick();
    this.body?.querySelector(`[aria-rowindex="${this.at + 2}"]`)?.querySelector<HTMLElement>('a, button')?.focus({ preventScroll: true });
  }
}
