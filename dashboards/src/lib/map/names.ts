// Pure: the devices of a board's map.

/** The site whose plan a board names, with values of its variables; null where none is chosen. */
export function siteWith(written: string, values: Record<string, string>): string | null {
  if (!written.startsWith('$')) return written;
  const value = values[written.slice(1)] ?? '';
  return value === '' || value === '*' ? null : value;
}

/** The devices that names of a board mean with values of its variables; a variable without one stands for any. */
export function namesWith(names: string[], values: Record<string, string>): string[] {
  const value = (name: string): string => values[name] || '*';
  return names.map((name) => {
    const [kind, variable] = /^(@(?:site|group)=)?\$(.+)$/.exec(name)?.slice(1) ?? [];
    if (variable === undefined) return name;
    // A site or a group that is any is any device: `*` in its place would be a name.
    return value(variable) === '*' ? '*' : (kind ?? '') + value(variable);
  });
}
