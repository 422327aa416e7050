// What was done to the times of readings, in words.
import { range, span } from './format';
import type { StampMark } from './series';

/** More corrections than these are summed up: a clock that is set every day has one for each. */
const SHIFTS_SHOWN_MAX = 3;

/** How the device's clock was wrong: "corrected by +3 h". */
function shiftText(shift: number | null): string {
  if (shift === null) return 'uncertain: the device’s clock was wrong, nobody knows by how much';
  return `corrected by ${shift < 0 ? '−' : '+'}${span(Math.abs(shift))}`;
}

/** The text of a mark as its hover title. */
export function markTitle(mark: StampMark): string {
  const shown = [...new Set(mark.shifts.map(shiftText))];
  const more = shown.length > SHIFTS_SHOWN_MAX ? [`and ${shown.length - SHIFTS_SHOWN_MAX} other corrections`] : [];
  return `Times ${[...shown.slice(0, SHIFTS_SHOWN_MAX), ...more].join('; ')}\n${range(mark.from, mark.to)}`;
}
