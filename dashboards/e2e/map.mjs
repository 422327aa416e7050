// Where the mock hub's devices are: the map with its clusters, lists, and plans of sites. With FLEET=10000 as many more.
import { more } from './fleet.mjs';
import { rooms } from './png.mjs';

const WORST = ['revoked', 'online', 'never', 'suspect', 'flapping', 'offline'];
const positions = new Map([['cold-store-2', { lat: 53.5511, lon: 9.9937, source: 'set' }]]);
const spots = new Map([['pump-7', { x: 0.22, y: 0.35 }]]);
const images = new Map();
more.forEach(({ id }, n) => positions.set(id, { lat: 36 + ((n * 7919) % 3001) / 100, lon: -9 + ((n * 6007) % 4001) / 100, source: n % 4 === 0 ? 'measured' : 'set', ...(n % 4 === 0 ? { as_of_ms: Date.now() - n * 1000 } : {}) }));
// One that moves, near the 180th meridian.
const drifting = () => ({ lat: -17.7 + Math.sin(Date.now() / 20_000) / 10, lon: 178.4, source: 'measured', as_of_ms: Date.now() });

const give = (site, bytes) => images.set(site, { bytes, info: { site, media: 'image/png', width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20), bytes: bytes.length, sha256: String(Math.random()), by: 'admin', changed_ms: Date.now() } });
give('north', rooms());

function seen(device) {
  const { id, title, site, state, last_reading_ms } = device;
  return { id, title, site, state, revoked: false, last_reading_ms, position: id === 'edge-host' ? drifting() : (positions.get(id) ?? null), spot: spots.get(id) ?? null };
}
const fits = (pattern, { id, site, groups }) => (pattern.startsWith('@site=') ? site === pattern.slice(6) : pattern.startsWith('@group=') ? groups?.includes(pattern.slice(7)) : new RegExp(`^${pattern.replaceAll('*', '.*')}$`).test(id));

function meant(params, own) {
  const named = params.get('devices') ?? '';
  const patterns = named.startsWith('[') ? JSON.parse(named) : named.split(',').filter((one) => one !== '');
  const site = params.get('site');
  return [...own, ...more].filter((device) => site === null || device.site === site).filter((device) => patterns.length === 0 || patterns.some((pattern) => fits(pattern, device))).map(seen);
}

function within(params) {
  const [west, south, east, north] = (params.get('bbox') ?? '-180,-90,180,90').split(',').map(Number);
  return ({ lat, lon }) => lat >= south && lat <= north && (west > east ? lon >= west || lon <= east : lon >= west && lon <= east);
}

const share = ({ lat, lon }) => [(lon + 180) / 360, (1 - Math.asinh(Math.tan((Math.min(85, Math.max(-85, lat)) * Math.PI) / 180)) / Math.PI) / 2];

function cluster(all, zoom) {
  const at = all.map(({ position }) => position);
  const of = (name) => all.filter(({ state }) => state === name).length;
  const bounds = { west: Math.min(...at.map(({ lon }) => lon)), south: Math.min(...at.map(({ lat }) => lat)), east: Math.max(...at.map(({ lon }) => lon)), north: Math.max(...at.map(({ lat }) => lat)) };
  const mean = (pick) => at.reduce((sum, one) => sum + pick(one), 0) / at.length;
  const isOne = bounds.west === bounds.east && bounds.south === bounds.north;
  return {
    lat: mean(({ lat }) => lat), lon: mean(({ lon }) => lon), count: all.length, worst: WORST.findLast((name) => of(name) > 0),
    states: Object.fromEntries(WORST.map((name) => [name, of(name)])), bounds, apart_zoom: isOne ? null : zoom + 1, ...(all.length === 1 ? { device: all[0] } : {}),
  };
}

function answer(params, own) {
  const zoom = Number(params.get('zoom') ?? 0);
  const all = meant(params, own);
  const placed = all.filter(({ position }) => position !== null);
  const isIn = within(params);
  const squares = new Map();
  for (const device of placed.filter(({ position }) => isIn(position))) {
    const key = share(device.position).map((one) => Math.floor(one * 2 ** (zoom + 2))).join();
    squares.set(key, [...(squares.get(key) ?? []), device]);
  }
  const bounds = placed.length > 0 ? cluster(placed, zoom).bounds : null;
  return { as_of_ms: Date.now(), zoom, clusters: [...squares.values()].map((one) => cluster(one, zoom)), bounds, placed: placed.length, unplaced: all.length - placed.length };
}

function list(params, own) {
  const isIn = within(params);
  const [q, placed] = ['q', 'placed'].map((name) => params.get(name));
  const all = meant(params, own).filter((device) => `${device.id} ${device.title}`.includes(q ?? '')
    && (placed === null || placed === String(device.position !== null)) && (!params.has('bbox') || (device.position !== null && isIn(device.position))));
  all.sort((a, b) => WORST.indexOf(b.state) - WORST.indexOf(a.state) || (a.id < b.id ? -1 : 1));
  const from = Number(params.get('cursor') ?? 0);
  const to = from + Number(params.get('limit') ?? 200);
  return { as_of_ms: Date.now(), devices: all.slice(from, to), total: all.length, next: to < all.length ? String(to) : null };
}

async function bytesOf(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts);
}

/** Keeps where a device is. */
export function place(id, { position, spot }) {
  if (position) positions.set(id, { ...position, source: 'set' });
  if (position === null) positions.delete(id);
  if (spot) spots.set(id, spot);
  if (spot === null) spots.delete(id);
}

/** What the hub answers about places; null where the path is another's. `body` is JSON, or an image with its media type. */
export async function places(request, path, params, own) {
  const ok = (body) => ({ status: 200, body });
  const bad = (code) => ({ status: 400, body: { type: 'about:blank', title: code, status: 400, code, detail: code } });
  if (path === '/map') return ok(answer(params, own));
  if (path === '/map/devices') return ok(list(params, own));
  if (path === '/plans') return ok({ plans: [...images.values()].map(({ info }) => info) });
  // That of a panel which a link shows: of the only one with a plan.
  const site = path === '/plan' ? [path, 'north'] : /^\/sites\/([^/]+)\/plan$/.exec(path);
  if (!site) return null;
  const name = decodeURIComponent(site[1]);
  if (request.method === 'PUT') {
    const bytes = await bytesOf(request);
    if (bytes.subarray(1, 4).toString() !== 'PNG') return bad('bad-image');
    give(name, bytes);
    return ok(images.get(name).info);
  }
  if (request.method === 'DELETE') return { status: images.delete(name) ? 204 : 404 };
  const found = images.get(name);
  return found ? { status: 200, image: found.bytes, media: found.info.media } : { status: 404, body: { type: 'about:blank', title: 'not-found', status: 404, code: 'not-found', detail: 'not-found' } };
}
