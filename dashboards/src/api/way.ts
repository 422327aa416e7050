// Where questions go, and what proves that they may be asked beside the session's cookie.

export const BASE = '/api/v1';

let way: { base: string; headers: Record<string, string> } = { base: BASE, headers: {} };

/** Asks by a link that shows a board, and by nothing else, from here on. */
export function askByLink(token: string): void {
  way = { base: `${BASE}/shared`, headers: { authorization: `Bearer ${token}` } };
}

/** Where `path` is asked for, and with which headers. */
export function wayTo(path: string): { address: string; headers: Record<string, string> } {
  return { address: way.base + path, headers: way.headers };
}
