// Pure: which points of a device hardly ever say anything.

/** So many readings of another point in the range show that the device speaks. */
const SPEAKS = 10;

/**
 * Whether each of some points is quiet, by how many of its readings are in the range (null is never one): at most one while another
 * has many. Where readings were dropped nobody knows, and the chart shows the gap.
 */
export function areQuiet(counts: (number | null)[], hasGaps: boolean): boolean[] {
  const speaks = !hasGaps && counts.some((n) => n !== null && n > SPEAKS);
  return counts.map((n) => speaks && n !== null && n <= 1);
}
