// The address of a page is the hash: `#/` is the fleet, `#/device/ID` a device,
// `#/map` where they are, `#/explore` series side by side, `#/boards` the boards, `#/boards/ID` and `#/boards/device/ID` one,
// `#/shared/TOKEN` one that is shown by a link, `#/operate/TAB` what operators do. What a page shows stands behind a `?`.

export const OPERATE_TABS = ['enrol', 'devices', 'commands', 'templates', 'hub', 'access', 'events'] as const;
export type OperateTab = (typeof OPERATE_TABS)[number];

export type Route =
  | { page: 'fleet' | 'explore' | 'boards' | 'map' }
  | { page: 'device'; id: string }
  | { page: 'board'; id: string; device: boolean }
  | { page: 'shared'; token: string }
  | { page: 'operate'; tab: OperateTab | null };

function parts(hash: string): [string, string] {
  const at = hash.indexOf('?');
  return at < 0 ? [hash, ''] : [hash.slice(0, at), hash.slice(at + 1)];
}

/** Parses a location hash; whatever it does not know is the fleet. */
export function parseHash(hash: string): Route {
  const [path] = parts(hash);
  if (path === '#/explore') return { page: 'explore' };
  if (path === '#/boards') return { page: 'boards' };
  if (path === '#/map') return { page: 'map' };
  const operate = /^#\/operate(?:\/([a-z]*))?$/.exec(path);
  if (operate) return { page: 'operate', tab: OPERATE_TABS.find((tab) => tab === operate[1]) ?? null };
  const match = /^#\/(device|boards|boards\/device|shared)\/([^/]+)$/.exec(path);
  if (!match) return { page: 'fleet' };
  let id: string;
  try {
    id = decodeURIComponent(match[2]);
  } catch {
    return { page: 'fleet' };
  }
  if (match[1] === 'shared') return { page: 'shared', token: id };
  return match[1] === 'device' ? { page: 'device', id } : { page: 'board', id, device: match[1] !== 'boards' };
}

/** What stands behind the `?` of a hash. */
export function paramsOf(hash: string): URLSearchParams {
  return new URLSearchParams(parts(hash)[1]);
}

/** The same page with some parameters set, or taken away by null. */
export function withParams(hash: string, changes: Record<string, string | null>): string {
  const [path] = parts(hash);
  const params = paramsOf(hash);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) params.delete(name);
    else params.set(name, value);
  }
  // Readable where it may be: addresses are shown to people and sent to others.
  const text = params.toString().replaceAll('%2F', '/').replaceAll('%3A', ':').replaceAll('%2C', ',');
  return (path || '#/') + (text ? `?${text}` : '');
}

/** The hash of a device's page. */
export function deviceHash(id: string): string {
  return `#/device/${encodeURIComponent(id)}`;
}

/** The hash of a board. */
export function boardHash(id: string): string {
  return `#/boards/${encodeURIComponent(id)}`;
}

/** The hash of the board that a device's profile makes. */
export function deviceBoardHash(device: string): string {
  return `#/boards/device/${encodeURIComponent(device)}`;
}

/** The hash of a board that a link shows: what is behind `#` is sent to nobody. */
export function sharedHash(token: string): string {
  return `#/shared/${encodeURIComponent(token)}`;
}

/** The hash of a part of what operators do. */
export function operateHash(tab: OperateTab): string {
  return `#/operate/${tab}`;
}

/** Series as one parameter; their commas are not those between them. */
export function seriesText(ids: string[]): string {
  return ids.map((id) => id.replace(/[%,]/g, encodeURIComponent)).join(',');
}

/** The series that a parameter names, each once. */
export function parseSeries(text: string): string[] {
  const ids = text.split(',').flatMap((part) => {
    try {
      return [decodeURIComponent(part)];
    } catch {
      return [];
    }
  });
  return [...new Set(ids.filter((id) => id.includes('/')))];
}

/** The hash of series side by side. */
export function exploreHash(series: string[] = []): string {
  return withParams('#/explore', series.length > 0 ? { s: seriesText(series) } : {});
}
