// The page that is open and what it shows, as the location's hash names it.
import { paramsOf, parseHash, withParams, type Route } from './route';

/** Whether the page may be left for another one; it asks the reader where something would be lost. */
export type Guard = () => boolean;

class Router {
  route = $state.raw<Route>(parseHash(location.hash));
  params = $state.raw<URLSearchParams>(paramsOf(location.hash));
  #hash = location.hash;
  #guard: Guard | null = null;
  /** Where a link leads that the reader has agreed to follow. */
  #agreed: string | null = null;

  constructor() {
    window.addEventListener('hashchange', () => this.#moved());
    window.addEventListener('click', (event) => this.#clicked(event), true);
  }

  /**
   * Sets parameters of the page. What a person chose is a step that the browser's way back undoes;
   * what only follows from it replaces the address.
   */
  put(changes: Record<string, string | null>, how: 'step' | 'replace'): void {
    const hash = withParams(location.hash, changes);
    if (hash === location.hash) return;
    if (how === 'step') history.pushState(null, '', hash);
    else history.replaceState(null, '', hash);
    this.#read();
  }

  /** Has the page asked before it is left, until what is returned is called. */
  guard(guard: Guard): () => void {
    this.#guard = guard;
    return () => { if (this.#guard === guard) this.#guard = null; };
  }

  /** Whether the open page lets itself be left; what else the address says of the same page is no leave. */
  mayLeave(to: Route): boolean {
    return JSON.stringify(to) === JSON.stringify(this.route) || (this.#guard?.() ?? true);
  }

  /** A link is asked about before the address changes: one that is not followed is no step of the way back. */
  #clicked(event: MouseEvent): void {
    const isPlain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
    const link = event.target instanceof Element ? event.target.closest<HTMLAnchorElement>('a[href^="#"]') : null;
    if (this.#guard === null || !isPlain || link === null) return;
    if (this.mayLeave(parseHash(link.hash))) this.#agreed = link.hash;
    else event.preventDefault();
  }

  #moved(): void {
    const hasAgreed = this.#agreed === location.hash;
    this.#agreed = null;
    // The way back and forth, and addresses that are written by hand, cannot be asked about before.
    if (hasAgreed || this.mayLeave(parseHash(location.hash))) this.#read();
    else history.pushState(null, '', this.#hash);
  }

  #read(): void {
    this.#hash = location.hash;
    this.route = parseHash(location.hash);
    this.params = paramsOf(location.hash);
  }
}

export const router = new Router();
