// What was done to the times of readings, in words.
import { texts } from '../texts';
import { range, span } from './format';
import type { StampMark } from './series';

const said = texts.honest;
/** More corrections than these are summed up: a clock that is set every day has one for each. */
const SHIFTS_SHOWN_MAX = 3;

/** How the device's clock was wrong: "corrected by +3 h". */
function shiftText(shift: number | null): string {
  if (shift === null) return said.uncertain;
  return said.corrected(`${shift < 0 ? '−' : '+'}${span(Math.abs(shift))}`);
}

/** The text of a mark as its hover title. */
export function markTitle(mark: StampMark): string {
  const shown = [...new Set(mark.shifts.map(shiftText))];
  const more = shown.length > SHIFTS_SHOWN_MAX ? [said.otherShifts(shown.length - SHIFTS_SHOWN_MAX)] : [];
  return said.times([...shown.slice(0, SHIFTS_SHOWN_MAX), ...more].join('; '), range(mark.from, mark.to));
}
