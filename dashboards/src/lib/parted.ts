// Names that stand beside each other where there is little room: what tells each from the others, and what may be cut. Pure.

/** A name in three parts, which together are all of it. */
export interface Parted { whole: string; lead: string; own: string; trail: string }

const segments = (name: string): string[] => name.split(/(?<=\/)/);

/** How many of the first segments all have in common; each keeps one of its own. */
function shared(all: string[][]): number {
  const most = Math.min(...all.map((one) => one.length)) - 1;
  let n = 0;
  while (n < most && all.every((one) => one[n] === all[0][n])) n += 1;
  return n;
}

/** The parts of some names, of which no two have the same `own` unless they are the same. */
export function parted(names: string[]): Parted[] {
  const all = names.map(segments);
  const lead = all.length === 0 ? 0 : shared(all);
  const rest = all.map((one) => one.slice(lead).reverse());
  // Of a name that stands alone its end says most.
  const trail = new Set(names).size < 2 ? 0 : shared(rest);
  return all.map((one, i) => {
    const end = one.length - trail;
    return { whole: names[i], lead: one.slice(0, lead).join(''), own: one.slice(lead, end).join(''), trail: one.slice(end).join('') };
  });
}

/** What is shown of some series: their names for people, and the whole name where others are called the same. */
export function callings(all: { id: string; name: string }[]): string[] {
  const times = new Map<string, number>();
  for (const { name } of all) times.set(name, (times.get(name) ?? 0) + 1);
  return all.map(({ id, name }) => (times.get(name) === 1 ? name : id));
}
