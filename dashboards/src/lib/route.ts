// The address of a page is the hash: `#/` is the fleet, `#/device/ID` a device.

export type Route = { page: 'fleet' } | { page: 'device'; id: string };

/** Parses a location hash; whatever it does not know is the fleet. */
export function parseHash(hash: string): Route {
  const match = /^#\/device\/([^/?]+)$/.exec(hash);
  if (!match) return { page: 'fleet' };
  try {
    return { page: 'device', id: decodeURIComponent(match[1]) };
  } catch {
    return { page: 'fleet' };
  }
}

/** The hash of a device's page. */
export function deviceHash(id: string): string {
  return `#/device/${encodeURIComponent(id)}`;
}
