// Pure: the world as Web Mercator draws it, and what of it is seen. A place is two shares of the world's square, from its
// upper left corner; at zoom 0 the square is 256 pixels wide, and twice as many at each next.
import type { MapBounds } from '../../api/map';

export const TILE_PX = 256;
export const ZOOM_MAX = 18;
/** Where the square ends. */
const LAT_MAX = 85.05112877980659;
/** As near to the edge of the world's square as numbers are exact. */
const EDGE = 1e-9;
/** Room that is left around what is to fit. */
const EDGE_PX = 48;
/** The zoom of a single place. */
const ZOOM_ONE = 12;

export interface Size { width: number; height: number }
/** What is seen: the place in the middle, and how large the world is. */
export interface View { x: number; y: number; zoom: number }
export interface Degrees { lat: number; lon: number }

const within = (n: number, least: number, most: number): number => Math.min(Math.max(n, least), most);
/** East of the 180th meridian is west again. */
const around = (x: number): number => x - Math.floor(x);

export const worldPx = (zoom: number): number => TILE_PX * 2 ** zoom;
export const xOf = (lon: number): number => (lon + 180) / 360;
export const lonOf = (x: number): number => x * 360 - 180;

export function yOf(lat: number): number {
  const angle = (within(lat, -LAT_MAX, LAT_MAX) * Math.PI) / 180;
  return (1 - Math.asinh(Math.tan(angle)) / Math.PI) / 2;
}

export function latOf(y: number): number {
  return (Math.atan(Math.sinh(Math.PI * (1 - 2 * y))) * 180) / Math.PI;
}

/** A view that shows nothing but the world. */
export function sound(view: View, { width, height }: Size): View {
  const least = Math.max(0, Math.log2(Math.max(width, height, 1) / TILE_PX));
  const zoom = within(Number.isFinite(view.zoom) ? view.zoom : least, least, Math.max(ZOOM_MAX, least));
  const half = height / worldPx(zoom) / 2;
  return { x: around(Number.isFinite(view.x) ? view.x : 0.5), y: within(Number.isFinite(view.y) ? view.y : 0.5, Math.min(half, 0.5), Math.max(1 - half, 0.5)), zoom };
}

/** Where a place is on the screen: the nearest of its copies around the world. */
export function onScreen(view: View, { width, height }: Size, { lat, lon }: Degrees): { left: number; top: number } {
  const px = worldPx(view.zoom);
  const east = around(xOf(lon) - view.x + 0.5) - 0.5;
  return { left: width / 2 + east * px, top: height / 2 + (yOf(lat) - view.y) * px };
}

/** Which place is at a point of the screen. */
export function atScreen(view: View, { width, height }: Size, left: number, top: number): Degrees {
  const px = worldPx(view.zoom);
  return { lat: latOf(view.y + (top - height / 2) / px), lon: lonOf(around(view.x + (left - width / 2) / px)) };
}

/** The view when what is under a finger is dragged so many pixels. */
export function moved(view: View, size: Size, right: number, down: number): View {
  const px = worldPx(view.zoom);
  return sound({ ...view, x: view.x - right / px, y: view.y - down / px }, size);
}

/** Another zoom; what is at a point of the screen stays there. */
export function zoomed(view: View, size: Size, zoom: number, left = size.width / 2, top = size.height / 2): View {
  const next = sound({ ...view, zoom }, size);
  const [before, after] = [worldPx(view.zoom), worldPx(next.zoom)];
  const [right, down] = [left - size.width / 2, top - size.height / 2];
  return sound({ x: view.x + right / before - right / after, y: view.y + down / before - down / after, zoom: next.zoom }, size);
}

/** What is seen, in degrees; where west is greater than east, it lies across the 180th meridian. */
export function windowOf(view: View, { width, height }: Size): MapBounds {
  const px = worldPx(view.zoom);
  const [across, down] = [width / px / 2, height / px / 2];
  // What is beyond the ends of the square is drawn at its edge, and is seen there.
  const north = view.y - down <= EDGE ? 90 : latOf(view.y - down);
  const south = view.y + down >= 1 - EDGE ? -90 : latOf(view.y + down);
  if (across >= 0.499) return { west: -180, south, east: 180, north };
  return { west: lonOf(around(view.x - across)), south, east: lonOf(around(view.x + across)), north };
}

export function boundsText({ west, south, east, north }: MapBounds): string {
  return [west, south, east, north].join(',');
}

/** The view that has all of something in it. */
export function fitted(bounds: MapBounds, size: Size): View {
  const [left, right] = [xOf(bounds.west), xOf(bounds.east)];
  const [top, bottom] = [yOf(bounds.north), yOf(bounds.south)];
  const wide = right < left ? right + 1 - left : right - left;
  const room = (px: number): number => Math.max(px - 2 * EDGE_PX, TILE_PX / 8);
  const zoomOf = (share: number, px: number): number => (share > 0 ? Math.log2(room(px) / (share * TILE_PX)) : ZOOM_ONE);
  const zoom = Math.min(zoomOf(wide, size.width), zoomOf(bottom - top, size.height), ZOOM_MAX);
  return sound({ x: left + wide / 2, y: (top + bottom) / 2, zoom: wide === 0 && bottom === top ? ZOOM_ONE : zoom }, size);
}

/** The view as an address has it. */
export function viewText(view: View): { at: string; z: string } {
  // As exact as a pixel is.
  const digits = within(Math.ceil(Math.log10(worldPx(view.zoom) / 360)), 0, 7);
  return { at: `${latOf(view.y).toFixed(digits)},${lonOf(view.x).toFixed(digits)}`, z: view.zoom.toFixed(1) };
}

/** The view that an address names; null where it names none. */
export function parseView(at: string | null, z: string | null): View | null {
  const [lat, lon] = (at ?? '').split(',').map((part) => (part.trim() === '' ? Number.NaN : Number(part)));
  const zoom = z === null || z.trim() === '' ? Number.NaN : Number(z);
  if (![lat, lon, zoom].every(Number.isFinite) || Math.abs(lat) > 90 || Math.abs(lon) > 180 || zoom < 0 || zoom > ZOOM_MAX) return null;
  return { x: xOf(lon), y: yOf(lat), zoom };
}

/** The view that an address names where it is another one than is shown; null where there is nothing to follow. */
export function otherView(at: string | null, z: string | null, shown: View): View | null {
  const named = parseView(at, z);
  const text = viewText(shown);
  if (named === null || (text.at === at && text.z === z)) return null;
  const same = viewText(named);
  return same.at === text.at && same.z === text.z ? null : named;
}

/** Metres of a pixel in the middle of what is seen. */
export function metresOfPx(view: View): number {
  return (40_075_016.686 * Math.cos((latOf(view.y) * Math.PI) / 180)) / worldPx(view.zoom);
}

/** A scale: the longest round length that is no longer than so many pixels. */
export function scaleOf(view: View, pxMost: number): { metres: number; px: number } {
  const most = metresOfPx(view) * pxMost;
  const power = 10 ** Math.floor(Math.log10(most));
  const metres = power * ([5, 2, 1].find((step) => step * power <= most) ?? 1);
  return { metres, px: metres / metresOfPx(view) };
}

/** Degrees between the lines of a net, the largest first. */
const NET_STEPS = [45, 30, 15, 10, ...[0, -1, -2, -3, -4, -5].flatMap((power) => [5, 2, 1].map((n) => n * 10 ** power))];

/** Degrees between the lines of the net, which are some hundred pixels apart. */
export function netStep(zoom: number): number {
  const degrees = (360 / worldPx(zoom)) * 110;
  return NET_STEPS.filter((step) => step >= degrees).at(-1) ?? NET_STEPS[0];
}

/**
 * A line that goes on beyond the 180th meridian, in place of one that leaps to the other end of the world. A ring around a pole
 * comes back a world away from where it began; it is closed along the pole.
 */
export function unrolled(line: [number, number][], closed: boolean): [number, number][] {
  let turn = 0;
  const out = line.map(([lon, lat], i): [number, number] => {
    const leap = i > 0 ? lon - line[i - 1][0] : 0;
    if (Math.abs(leap) > 180) turn -= 360 * Math.sign(leap);
    return [lon + turn, lat];
  });
  const [first, last] = [out[0], out[out.length - 1]];
  if (closed && turn !== 0 && Math.abs(last[0] - first[0]) > 180) {
    const pole = 90 * Math.sign(first[1]);
    out.push([last[0], pole], [first[0], pole]);
  }
  return out;
}
