// Pure: what somebody wrote of where a device is, and what is wrong with it.
import type { MapDevice, PlanSpot, PositionPatch } from '../../api/map';
import type { Degrees } from './mercator';

/** As it stands in the fields. */
export interface Written { lat: string; lon: string; alt: string; x: string; y: string }

const PER_CENT = 100;

/** What the fields begin with. */
export function writtenOf({ position, spot }: MapDevice): Written {
  const share = (n: number | undefined): string => (n === undefined ? '' : String(Number((n * PER_CENT).toFixed(2))));
  return {
    lat: position ? String(position.lat) : '', lon: position ? String(position.lon) : '', alt: String(position?.alt_m ?? ''),
    x: share(spot?.x), y: share(spot?.y),
  };
}

/** A number within its ends; a decimal comma is one, as people write it. */
function number(text: string, least: number, most: number): number | null {
  const plain = text.trim().replace(',', '.');
  const n = Number(plain);
  return plain !== '' && Number.isFinite(n) && n >= least && n <= most ? n : null;
}

export function placeOf({ lat, lon, alt }: Written): { position: PositionPatch } | { bad: 'lat' | 'lon' | 'alt' } {
  const [north, east] = [number(lat, -90, 90), number(lon, -180, 180)];
  if (north === null) return { bad: 'lat' };
  if (east === null) return { bad: 'lon' };
  if (alt.trim() === '') return { position: { lat: north, lon: east } };
  const high = number(alt, -12_000, 100_000);
  return high === null ? { bad: 'alt' } : { position: { lat: north, lon: east, alt_m: high } };
}

export function shareOf({ x, y }: Written): { spot: PlanSpot } | { bad: 'share' } {
  const [right, down] = [number(x, 0, PER_CENT), number(y, 0, PER_CENT)];
  return right === null || down === null ? { bad: 'share' } : { spot: { x: right / PER_CENT, y: down / PER_CENT } };
}

/** The form of a device is gone: the focus goes back to the button that opened it, or to where it was when the device is no more. */
export function backTo(side: HTMLElement | undefined, id: string | undefined): void {
  const buttons = [...(side?.querySelectorAll<HTMLElement>('[data-place]') ?? [])];
  (buttons.find((button) => button.dataset.place === id) ?? side)?.focus();
}

/** The fields after a click on the map, as exact as a centimetre or so. */
export function clicked(written: Written, at: Degrees): Written {
  return { ...written, lat: at.lat.toFixed(7), lon: at.lon.toFixed(7) };
}

/** The fields after a click on a plan. */
export function clickedPlan(written: Written, { x, y }: PlanSpot): Written {
  const text = (n: number): string => (Math.min(Math.max(n, 0), 1) * PER_CENT).toFixed(2);
  return { ...written, x: text(x), y: text(y) };
}
