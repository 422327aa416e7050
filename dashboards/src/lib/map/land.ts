// Land and borders of Natural Earth, as npm's world-atlas has them, drawn without any network but the hub's: a coarse world
// first, a finer one when somebody looks closer.
import { feature, mesh } from 'topojson-client';
import type { GeometryCollection, Topology } from 'topojson-specification';
import coarse from 'world-atlas/countries-110m.json?url';
import fine from 'world-atlas/countries-50m.json?url';
import { latOf, lonOf, netStep, unrolled, worldPx, xOf, yOf, type Size, type View } from './mercator';

/** From this zoom on the finer world is drawn. */
export const FINE_FROM = 4;
/** From this zoom on coasts are seen to be coarse. */
export const COARSE_FROM = 9;

/** A part of the world, in shares of its square, with what holds it. */
interface Shape { path: Path2D; west: number; north: number; east: number; south: number }
export interface Land { shapes: Shape[]; borders: Shape[] }
type World = Topology<{ countries: GeometryCollection; land: GeometryCollection }>;

/** What the drawing takes from the page. */
export interface Colours { sea: string; land: string; border: string; net: string; text: string }

function shapeOf(lines: [number, number][][], closed: boolean): Shape {
  const path = new Path2D();
  const shape = { path, west: Infinity, north: Infinity, east: -Infinity, south: -Infinity };
  for (const line of lines) {
    unrolled(line, closed).forEach(([lon, lat], i) => {
      const [x, y] = [xOf(lon), yOf(lat)];
      if (i === 0) path.moveTo(x, y);
      else path.lineTo(x, y);
      shape.west = Math.min(shape.west, x);
      shape.east = Math.max(shape.east, x);
      shape.north = Math.min(shape.north, y);
      shape.south = Math.max(shape.south, y);
    });
    if (closed) path.closePath();
  }
  return shape;
}

async function read(address: string): Promise<Land> {
  const world = (await (await fetch(address)).json()) as World;
  const found = feature(world, world.objects.land);
  const polygons = found.features.flatMap(({ geometry }) => {
    if (geometry.type === 'Polygon') return [geometry.coordinates];
    return geometry.type === 'MultiPolygon' ? geometry.coordinates : [];
  });
  const borders = mesh(world, world.objects.countries, (a, b) => a !== b).coordinates;
  return {
    shapes: polygons.map((rings) => shapeOf(rings as [number, number][][], true)),
    borders: borders.map((line) => shapeOf([line] as [number, number][][], false)),
  };
}

const worlds = new Map<string, Promise<Land>>();

/** The world for a zoom; each is read once. */
export function landFor(zoom: number): Promise<Land> {
  const address = zoom >= FINE_FROM ? fine : coarse;
  let world = worlds.get(address);
  if (!world) {
    world = read(address);
    worlds.set(address, world);
    // What failed is tried again.
    world.catch(() => worlds.delete(address));
  }
  return world;
}

/** Draws what is seen; the canvas has `ratio` of its own pixels for each of the page's. */
export function drawWorld(canvas: HTMLCanvasElement, land: Land | null, view: View, { width, height }: Size, ratio: number, colours: Colours): void {
  const context = canvas.getContext('2d');
  if (!context) return;
  const px = worldPx(view.zoom);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = colours.sea;
  context.fillRect(0, 0, width, height);
  const [across, down] = [width / px / 2, height / px / 2];
  for (const turn of [-1, 0, 1]) {
    const [west, east] = [view.x - across - turn, view.x + across - turn];
    const isSeen = (shape: Shape): boolean => shape.east >= west && shape.west <= east && shape.south >= view.y - down && shape.north <= view.y + down;
    if (!land) continue;
    context.setTransform(ratio * px, 0, 0, ratio * px, ratio * (width / 2 - (view.x - turn) * px), ratio * (height / 2 - view.y * px));
    context.fillStyle = colours.land;
    context.strokeStyle = colours.border;
    context.lineWidth = 1 / px;
    for (const { path } of land.shapes.filter(isSeen)) {
      context.fill(path, 'evenodd');
      context.stroke(path);
    }
    for (const { path } of land.borders.filter(isSeen)) context.stroke(path);
  }
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  drawNet(context, view, { width, height }, colours);
}

/** Meridians and parallels, with their degrees at the edge: where there is no coast they alone tell where one is. */
function drawNet(context: CanvasRenderingContext2D, view: View, { width, height }: Size, colours: Colours): void {
  const px = worldPx(view.zoom);
  const step = netStep(view.zoom);
  const digits = Math.max(0, Math.ceil(-Math.log10(step)));
  const degrees = (n: number, signs: [string, string]): string => `${Math.abs(n).toFixed(digits)}°${n === 0 ? '' : signs[n > 0 ? 0 : 1]}`;
  context.strokeStyle = colours.net;
  context.fillStyle = colours.text;
  context.font = '10px system-ui, sans-serif';
  context.lineWidth = 1;
  context.beginPath();
  const west = lonOf(view.x - width / px / 2);
  for (let lon = Math.ceil(west / step) * step; xOf(lon) < view.x + width / px / 2; lon += step) {
    const left = Math.round(width / 2 + (xOf(lon) - view.x) * px) + 0.5;
    context.moveTo(left, 0);
    context.lineTo(left, height);
    const turned = ((((lon + 180) % 360) + 360) % 360) - 180;
    context.fillText(degrees(Number(turned.toFixed(digits)), ['E', 'W']), left + 3, height - 4);
  }
  const north = latOf(Math.max(0, view.y - height / px / 2));
  const south = latOf(Math.min(1, view.y + height / px / 2));
  for (let lat = Math.ceil(south / step) * step; lat < north; lat += step) {
    const top = Math.round(height / 2 + (yOf(lat) - view.y) * px) + 0.5;
    context.moveTo(0, top);
    context.lineTo(width, top);
    context.fillText(degrees(Number(lat.toFixed(digits)), ['N', 'S']), 3, top - 3);
  }
  context.stroke();
}
