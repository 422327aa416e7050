// Pure: what a clock in a time zone shows. Zones are IANA names; null is the browser's own.

/** A quarter of an hour: no zone's clock is changed within one. */
const SLOT_MS = 900_000;
/** Slots whose offsets are remembered; a year of hours is fewer. */
const KNOWN_MAX = 20_000;

const formats = new Map<string, Intl.DateTimeFormat | null>();
const known = new Map<string, number>();

function formatOf(zone: string): Intl.DateTimeFormat | null {
  const found = formats.get(zone);
  if (found !== undefined) return found;
  let format: Intl.DateTimeFormat | null = null;
  try {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: zone, hourCycle: 'h23', year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric', second: 'numeric',
    });
  } catch {
    // The hub may know zones that this browser does not.
  }
  formats.set(zone, format);
  return format;
}

/** Whether this browser knows a zone. */
export function isZone(zone: string): boolean {
  return formatOf(zone) !== null;
}

/** How far a zone's clock is ahead of UTC at a moment (ms); 0 of a zone that is not known. */
export function offsetOf(zone: string, ms: number): number {
  const slot = Math.floor(ms / SLOT_MS) * SLOT_MS;
  const key = `${zone} ${slot}`;
  const found = known.get(key);
  if (found !== undefined) return found;
  const format = formatOf(zone);
  if (format === null || !Number.isFinite(slot)) return 0;
  const parts = new Map(format.formatToParts(slot).map(({ type, value }): [string, number] => [type, Number(value)]));
  const part = (name: string): number => parts.get(name) ?? 0;
  const offset = Date.UTC(part('year'), part('month') - 1, part('day'), part('hour'), part('minute'), part('second')) - slot;
  if (known.size >= KNOWN_MAX) known.clear();
  known.set(key, offset);
  return offset;
}

/** A date whose UTC parts are what the zone's clock shows. */
export function shown(zone: string, ms: number): Date {
  return new Date(ms + offsetOf(zone, ms));
}

/** The moment at which a zone's clock shows what a date's UTC parts say; where it comes twice, one of them. */
export function momentOf(zone: string, parts: number): number {
  // The offset at the guess may be that of the other side of a change.
  const guess = parts - offsetOf(zone, parts);
  return parts - offsetOf(zone, guess);
}
