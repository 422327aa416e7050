// Pure: a short history as the path of a small line.

/** A box of this size, which the page stretches. */
export const WIDTH = 100;
export const HEIGHT = 24;

export interface Spark {
  /** What goes into the `d` of a path. */
  path: string;
  low: number;
  high: number;
}

/**
 * The line of values at moments `width` apart, the newest of which may be at the right edge; it breaks where a moment is
 * missing or its value is not known. The scale begins at zero unless all is far from it.
 */
export function spark(t: number[], values: (number | null)[], width: number, slots: number): Spark | null {
  const known = t.flatMap((at, i) => {
    const value = values[i];
    return value === null || value === undefined ? [] : [{ at, value }];
  });
  const newest = t.at(-1);
  if (known.length === 0 || newest === undefined) return null;
  const low = Math.min(...known.map(({ value }) => value));
  const high = Math.max(...known.map(({ value }) => value));
  const base = low > (high - low) * 4 ? low - (high - low || 1) * 0.2 : Math.min(0, low);
  const span = high - base || 1;
  const x = (at: number): string => (WIDTH - ((newest - at) / (width * Math.max(1, slots - 1))) * WIDTH).toFixed(1);
  const y = (value: number): string => (HEIGHT - 1 - ((value - base) / span) * (HEIGHT - 2)).toFixed(1);
  let path = '';
  known.forEach(({ at, value }, i) => {
    const joined = i > 0 && at - known[i - 1].at <= width * 1.5;
    // A moment alone is a dot: a line of no length with round ends.
    const alone = !joined && !(i + 1 < known.length && known[i + 1].at - at <= width * 1.5);
    path += `${joined ? 'L' : 'M'}${x(at)} ${y(value)}${alone ? 'h0' : ''}`;
  });
  return { path, low, high };
}
