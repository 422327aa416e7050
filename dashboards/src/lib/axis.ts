// What an axis of values shows. Pure.
import uPlot from 'uplot';

/** Room above and below, as a part of what the values span; of a value that stays, of itself. */
const ROOM = 0.1;

/** From where to where an axis goes for values from `min` to `max`; a share in per cent has no room where no share can be. */
export function valueRange(min: number | null, max: number | null, unit: string): [number, number] {
  if (min === null || max === null) return [0, 1];
  const room = Math.abs(min) * ROOM || 1;
  // Twice the value, as it would be otherwise, leaves most of the chart to what was never there.
  const [low, high] = min === max ? [min - room, max + room] : uPlot.rangeNum(min, max, ROOM, true);
  if (unit !== '%' || low === null || high === null) return [low ?? 0, high ?? 1];
  return [min >= 0 ? Math.max(low, 0) : low, max <= 100 ? Math.min(high, 100) : high];
}
