// The page that is open, as the location's hash names it.
import { parseHash, type Route } from './route';

class Router {
  route = $state<Route>(parseHash(location.hash));

  constructor() {
    window.addEventListener('hashchange', () => {
      this.route = parseHash(location.hash);
    });
  }
}

export const router = new Router();
