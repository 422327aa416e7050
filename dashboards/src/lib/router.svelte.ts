// The page that is open and what it shows, as the location's hash names it.
import { paramsOf, parseHash, withParams, type Route } from './route';

class Router {
  route = $state.raw<Route>(parseHash(location.hash));
  params = $state.raw<URLSearchParams>(paramsOf(location.hash));

  /** Whether the page may be left; asked for before another one is shown in its place. */
  mayLeave: (() => boolean) | null = null;

  constructor() {
    window.addEventListener('hashchange', ({ oldURL }) => {
      const isOther = JSON.stringify(parseHash(location.hash)) !== JSON.stringify(this.route);
      // The address has changed by then: the one of the page is put back, and the page was never away.
      if (isOther && this.mayLeave?.() === false) history.pushState(null, '', oldURL);
      else this.#read();
    });
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

  #read(): void {
    this.route = parseHash(location.hash);
    this.params = paramsOf(location.hash);
  }
}

export const router = new Router();
