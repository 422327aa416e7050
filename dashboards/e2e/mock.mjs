// A stand-in for the hub to develop against: serves dist/ under the hub's
// content security policy and the shapes of /api/v1 with made-up readings.
// pump-7 goes offline for 15 s of each minute; when it is back, fresh readings
// come first and the backlog follows out of order. PORT (default 8099).
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { figures, table } from './fleet.mjs';
import { operate } from './operate.mjs';
import { twin } from './twin.mjs';
import { aggregate, csv, sql } from './answers.mjs';
import { boards, shared } from './boards.mjs';

const PORT = Number(process.env.PORT ?? 8099);
const DIST = new URL('../dist', import.meta.url).pathname;
const CSP = "default-src 'self'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'";
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };

const BEGAN = Date.now();
const HISTORY_MS = 3 * 3600_000;
const OFFLINE_S = [20, 35];
const BACKFILL_S = 41;
const RESTAMPED = [
  { from_ms: BEGAN - 280_000, to_ms: BEGAN - 200_000, shift_ms: 1_763_719_200_000 },
  { from_ms: BEGAN - 90_000, to_ms: BEGAN - 60_000, shift_ms: null },
];
const DROPPED = { from_ms: BEGAN - 150_000, to_ms: BEGAN - 110_000 };

const POINTS = {
  'pump-7': [['bearing/temperature', 'Cel', 48, 3, 300], ['motor/current', 'A', 12, 2, 45], ['discharge/pressure', 'kPa', 410, 14, 120], ['flow', 'm3/h', 36, 5, 90], ['vibration/rms', 'mm/s', 2.4, 0.8, 20]],
  'cold-store-2': [['air/temperature', 'Cel', -18, 1.5, 600], ['compressor/power', 'W', 1430, 300, 180], ['door/count', '', 2100, 4, 240]],
  'edge-host': [['cpu/load', '1', 0.6, 0.4, 60], ['memory/used', 'By', 1.4e9, 2e7, 200]],
  'spare-gateway': [],
};

/** Points of integers. */
const WHOLE = new Set(['door/count']);
const MODES = ['cooling', 'idle', 'defrost', 'idle', null, 'a text that is much too long for the band it stands in'];
/** Points of truth values and texts: a reading every so many seconds. */
const STATES = {
  'pump-7': [{ point: 'running', name: 'Pump runs', type: 'bool', every: 1, at: (s) => s % 90 < 60 }],
  'cold-store-2': [
    { point: 'door/open', name: 'Door', type: 'bool', every: 1, at: (s) => s % 100 < 20 },
    { point: 'compressor/mode', name: 'Compressor', type: 'text', every: 37, at: (s) => MODES[Math.floor(s / 37) % MODES.length] },
    { point: 'switch/contact', name: '', type: 'bool', every: 1, at: (s) => Math.floor(s / 200) % 2 === 0 && s % 2 === 0 },
  ],
};
const statesOf = (device) => STATES[device] ?? [];
const qualityAt = (ms) => (Math.floor(ms / 1000) % 300 < 40 ? 'uncertain' : Math.floor(ms / 1000) % 300 > 280 ? 'bad' : 'good');
const stateAt = (state, ms) => state.at(Math.floor(ms / 1000));

/** The rows of states in [from, to], from its beginning. */
function rowsOf(device, state, from, to) {
  const now = Date.now();
  const step = state.every * 1000;
  const rows = [];
  for (let ms = Math.ceil(Math.max(from, BEGAN - HISTORY_MS) / step) * step; ms <= Math.min(to, now); ms += step) {
    if (stored(device, ms, now)) rows.push({ t: ms, v: stateAt(state, ms), quality: qualityAt(ms) });
  }
  return rows;
}

function rawAnswer(device, ids, params) {
  const [from, to] = ['from', 'to'].map((name) => Number(params.get(name)));
  const limit = Number(params.get('limit') ?? 10_000);
  const skip = Number(params.get('cursor') ?? 0);
  const rows = ids.flatMap((id) => {
    const point = id.slice(device.length + 1);
    const state = statesOf(device).find((one) => one.point === point);
    const found = state ? rowsOf(device, state, from, to) : numberRows(device, POINTS[device].find((p) => p[0] === point), from, to);
    return found.map((row) => ({ id, type: state?.type ?? 'float', ...row }));
  });
  const page = rows.slice(skip, skip + limit);
  const series = ids.map((id) => page.filter((row) => row.id === id)).filter((own) => own.length > 0).map((own) => ({
    id: own[0].id, unit: '', type: own[0].type, tier: 'raw', t: own.map((r) => r.t), t_ns: own.map((r) => `${r.t}000000`),
    v: own.map((r) => r.v), quality: own.map((r) => r.quality),
  }));
  return { series, next: skip + limit < rows.length ? String(skip + limit) : null, partial: false, thinned_to: null };
}

/** A reading in fifty of numbers is doubtful, one has no value; buckets leave them out. */
const numberQuality = (p, ms) => (Math.floor(ms / 1000 + p[0].length) % 50 === 7 ? 'uncertain' : Math.floor(ms / 1000) % 97 === 3 ? 'bad' : 'good');
const hasNone = (ms) => Math.floor(ms / 1000) % 61 === 5;

function numberRows(device, p, from, to) {
  const now = Date.now();
  const rows = [];
  for (let ms = Math.ceil(Math.max(from, BEGAN - HISTORY_MS) / 1000) * 1000; ms <= Math.min(to, now); ms += 1000) {
    if (stored(device, ms, now)) rows.push({ t: ms, v: hasNone(ms) ? null : valueAt(p, ms), quality: numberQuality(p, ms) });
  }
  return rows;
}

const second = (ms) => ((ms - BEGAN) / 1000) % 60;
const cut = (device, ms) => device === 'pump-7' && ms > BEGAN && second(ms) >= OFFLINE_S[0] && second(ms) < OFFLINE_S[1];

function valueAt([name, , base, swing, period], ms) {
  const noise = Math.sin(ms * 12.9898) * 43758.5453;
  const value = (base + swing * Math.sin((ms / 1000 / period) * 2 * Math.PI) + swing * 0.25 * (noise - Math.floor(noise) - 0.5));
  return Number(value.toFixed(WHOLE.has(name) ? 0 : 3));
}

/** Whether the hub has the reading of `ms` by `now`. */
function stored(device, ms, now) {
  if (device === 'pump-7' && ms >= DROPPED.from_ms && ms < DROPPED.to_ms) return false;
  if (!cut(device, ms)) return true;
  const start = ms - (second(ms) - OFFLINE_S[0]) * 1000;
  return now >= start + (BACKFILL_S - OFFLINE_S[0]) * 1000;
}

/** What was dropped, in two stretches with a cause each. */
function gapsOf(points) {
  const middle = (DROPPED.from_ms + DROPPED.to_ms) / 2;
  return [
    { from_ms: DROPPED.from_ms, to_ms: middle, rows: 20 * points, cause: 'disk_full' },
    { from_ms: middle, to_ms: DROPPED.to_ms, rows: 20 * points, cause: 'quota' },
  ];
}

function ledger(device, now) {
  const points = POINTS[device].length;
  const produced = Math.floor((now - BEGAN + HISTORY_MS) / 1000) * points;
  const dropped = device === 'pump-7' ? 40 * points : 0;
  const pending = cut(device, now) ? Math.floor(second(now) - OFFLINE_S[0]) * points : 0;
  const gaps = dropped ? gapsOf(points).map((gap, i) => ({ epoch: '00', first: 9000 + 40 * i, last: 9019 + 40 * i, ...gap })) : [];
  const dropped_by = Object.fromEntries(gaps.map((gap) => [gap.cause, gap.rows]));
  const corrected = device === 'pump-7' ? { restamped: 80 * points, uncertain: 30 * points } : { restamped: 0, uncertain: 0 };
  return { produced, stored: produced - pending - dropped, pending, dropped, dropped_by, ...corrected, refused: 0, duplicates: device === 'pump-7' ? 17 : 0, lost: 0, gaps, balanced: true, as_of_ms: points ? now : null };
}

function deviceOf(id) {
  const now = Date.now();
  const book = ledger(id, now);
  const points = POINTS[id].length;
  const offline = cut(id, now);
  const last = offline ? now - (second(now) - OFFLINE_S[0]) * 1000 : now - (now % 1000);
  return {
    id, agent: id, title: id === 'pump-7' ? 'Inlet pump' : '', site: points ? 'north' : '', groups: [], tags: points ? { floor: '2' } : {},
    about: points ? { profile: 'linux-host', firmware: '6.1.0', vendor: '', model: 'Debian 12', via: 'host' } : null,
    state: points === 0 ? 'never' : offline ? 'offline' : 'online', transport: points && !offline ? 'quic' : null,
    software: points ? 'edge-agent 0.1.0' : null, connected_ms: points && !offline ? BEGAN : null,
    last_seen_ms: points ? last : null, last_reading_ms: points ? Math.floor(last) : null,
    rate: offline ? 0 : points, backlog: book.pending, ledger: book,
  };
}

function seriesOf(device) {
  const now = Math.floor(Date.now() / 1000) * 1000;
  const numbers = (POINTS[device] ?? []).map((p) => ({ id: `${device}/${p[0]}`, device, point: p[0], unit: p[1], type: WHOLE.has(p[0]) ? 'int' : 'float', name: '', last: { t: now, v: valueAt(p, now) }, count: HISTORY_MS / 1000 }));
  const states = statesOf(device).map((state) => {
    const last = rowsOf(device, state, now - 60_000, now).at(-1) ?? null;
    return { id: `${device}/${state.point}`, device, point: state.point, unit: '', type: state.type, name: state.name, last, count: HISTORY_MS / 1000 };
  });
  return [...numbers, ...states];
}

function columnsOf(id, from, to, buckets) {
  const [device] = id.split('/', 1);
  const point = POINTS[device]?.find((p) => `${device}/${p[0]}` === id);
  const out = { id, unit: point?.[1] ?? '', tier: to - from > 7200_000 ? '1m' : 'raw', t: [], min: [], max: [], mean: [], last: [], count: [] };
  if (!point) return out;
  const width = Math.max(1000, Math.ceil((to - from) / buckets / 1000) * 1000);
  const now = Date.now();
  const first = Math.ceil(Math.max(from, BEGAN - HISTORY_MS) / 1000) * 1000;
  let values = [];
  let bucket = null;
  const flush = () => {
    if (values.length === 0) return;
    out.t.push(bucket);
    out.min.push(Math.min(...values));
    out.max.push(Math.max(...values));
    out.mean.push(values.reduce((a, b) => a + b, 0) / values.length);
    out.last.push(values[values.length - 1]);
    out.count.push(values.length);
    values = [];
  };
  for (let ms = first; ms <= Math.min(to, now); ms += 1000) {
    const start = Math.floor(ms / width) * width;
    if (start !== bucket) {
      flush();
      bucket = start;
    }
    if (stored(device, ms, now) && numberQuality(point, ms) === 'good' && !hasNone(ms)) values.push(valueAt(point, ms));
  }
  flush();
  return out;
}

const clients = new Set();
let eventId = 0;
function emit(name, data, device) {
  eventId += 1;
  for (const client of clients) {
    if (client.device && !client.device.split(',').includes(device)) continue;
    const own = client.series && name === 'readings' ? { series: data.series.filter((one) => client.series.includes(one.id)) } : data;
    if (own.series?.length === 0) continue;
    client.response.write(`id: ${eventId}\nevent: ${name}\ndata: ${JSON.stringify(own)}\n\n`);
  }
}

function readingsOf(device, times) {
  const states = statesOf(device).map((state) => {
    const due = times.filter((t) => (t / 1000) % state.every === 0);
    return { id: `${device}/${state.point}`, t: due, v: due.map((t) => stateAt(state, t)), quality: due.map(qualityAt) };
  });
  const numbers = POINTS[device].map((p) => ({ id: `${device}/${p[0]}`, t: times, v: times.map((t) => (hasNone(t) ? null : valueAt(p, t))), quality: times.map((t) => numberQuality(p, t)) }));
  return { series: [...numbers, ...states.filter((one) => one.t.length > 0)] };
}

setInterval(() => {
  const now = Math.floor(Date.now() / 1000) * 1000;
  for (const id of Object.keys(POINTS)) {
    if (POINTS[id].length > 0 && !cut(id, now)) emit('readings', readingsOf(id, [now]), id);
    emit('device', deviceOf(id), id);
  }
  if (now - BEGAN > 60_000 || second(now) > BACKFILL_S) {
    const at = Math.floor(second(now));
    if (at === BACKFILL_S) {
      const start = now - (at - OFFLINE_S[0]) * 1000;
      emit('readings', readingsOf('pump-7', Array.from({ length: 15 }, (_, i) => start + i * 1000)), 'pump-7');
    }
  }
}, 1000);

function json(response, status, body, headers = {}) {
  response.writeHead(status, { 'content-type': status < 400 ? 'application/json' : 'application/problem+json', ...headers });
  response.end(JSON.stringify(body));
}
const problem = (response, status, code) => json(response, status, { type: 'about:blank', title: code, status, code, detail: code });

async function bodyOf(request) {
  let body = '';
  for await (const chunk of request) body += chunk;
  return JSON.parse(body);
}

async function api(request, response, url) {
  const path = url.pathname.slice('/api/v1'.length);
  if (path === '/session' && request.method === 'POST') {
    const { user, password } = await bodyOf(request);
    if (user !== 'admin' || password !== 'admin') return problem(response, 401, 'bad-credentials');
    return json(response, 200, { user, role: 'admin' }, { 'set-cookie': 'tideline_session=mock; HttpOnly; SameSite=Strict; Path=/' });
  }
  const all = () => Object.keys(POINTS).flatMap(seriesOf);
  if (path.startsWith('/shared/')) {
    const found = shared((request.headers.authorization ?? '').replace('Bearer ', ''), all());
    if (!found) return problem(response, 401, 'share-ended');
    if (path === '/shared/board') return json(response, 200, found);
    return readings(request, response, url, path.slice('/shared'.length));
  }
  if (!/tideline_session=mock/.test(request.headers.cookie ?? '')) return problem(response, 401, 'login-needed');
  if (path === '/session' && request.method === 'DELETE') {
    response.writeHead(204, { 'set-cookie': 'tideline_session=; Max-Age=0; Path=/' });
    return response.end();
  }
  if (path === '/session') return json(response, 200, { user: 'admin', role: 'admin' });
  if (path === '/boards' || path.startsWith('/boards/')) {
    const body = ['POST', 'PUT'].includes(request.method) ? await bodyOf(request) : null;
    const made = boards(request.method, decodeURIComponent(path), url.searchParams, body, request.headers['if-match'], { all: all(), devices: Object.keys(POINTS) });
    if (made.status !== 204) return json(response, made.status, made.body);
    response.writeHead(204);
    return response.end();
  }
  const own = () => Object.keys(POINTS).map(deviceOf);
  if (path === '/fleet') return json(response, 200, figures(own()));
  if (path === '/fleet/devices') return json(response, 200, table(own()));
  const operated = await operate(request.method, path, url.searchParams, () => bodyOf(request));
  if (operated) return operated.status === 204 ? response.writeHead(204).end() : json(response, operated.status, operated.body);
  if (path === '/devices') return json(response, 200, { devices: Object.keys(POINTS).map(deviceOf), next: null });
  if (path.startsWith('/devices/') && path.endsWith('/events')) {
    return json(response, 200, { events: [{ at_ms: BEGAN - 60_000, change: 'online', reason: 'heard', changes: 1 }] });
  }
  const about = /^\/devices\/([^/]+)\/twin(\/[a-z]+)?$/.exec(path);
  if (about) return json(response, 200, twin(decodeURIComponent(about[1]), about[2] ?? '', request.method === 'PATCH' ? await bodyOf(request) : null));
  if (path.startsWith('/devices/')) {
    const id = decodeURIComponent(path.slice('/devices/'.length));
    return POINTS[id] ? json(response, 200, deviceOf(id)) : problem(response, 404, 'no-such-device');
  }
  if (path === '/series') {
    const device = url.searchParams.get('device');
    return json(response, 200, { series: (device ? [device] : Object.keys(POINTS)).flatMap(seriesOf), next: null });
  }
  if (path === '/aggregate') return json(response, 200, aggregate(await bodyOf(request), columnsOf));
  if (path === '/sql') {
    const answer = sql((await bodyOf(request)).sql, columnsOf);
    if (answer === null) return problem(response, 400, 'sql-syntax');
    if (request.headers.accept === 'application/json') return json(response, 200, answer);
    response.writeHead(200, { 'content-type': request.headers.accept });
    return response.end(request.headers.accept === 'text/csv' ? csv(answer) : 'PAR1');
  }
  if (path === '/export') {
    const id = url.searchParams.get('series').split(',')[0];
    const { t, mean } = columnsOf(id, Number(url.searchParams.get('from')), Number(url.searchParams.get('to')), 500);
    response.writeHead(200, { 'content-type': 'text/csv' });
    return response.end(csv({ columns: [{ name: 'time' }, { name: 'value' }], rows: t.map((at, i) => [at, mean[i]]) }));
  }
  return readings(request, response, url, path);
}

/** Readings of the past and those that come. */
function readings(request, response, url, path) {
  if (path === '/query') {
    const [from, to, buckets] = ['from', 'to', 'buckets'].map((name) => Number(url.searchParams.get(name)));
    const ids = url.searchParams.get('series').split(',');
    const gaps = ids.some((id) => id.startsWith('pump-7/')) ? gapsOf(POINTS['pump-7'].length).map((gap) => ({ device: 'pump-7', ...gap })) : [];
    const restamped = ids[0].startsWith('pump-7/') ? RESTAMPED.map((one) => ({ device: 'pump-7', ...one })) : [];
    if (!url.searchParams.has('buckets')) return json(response, 200, { ...rawAnswer(ids[0].split('/', 1)[0], ids, url.searchParams), missing: [], gaps, restamped });
    const numbers = ids.filter((id) => POINTS[id.split('/', 1)[0]].some(([point]) => id.endsWith(`/${point}`)));
    return json(response, 200, { series: numbers.map((id) => columnsOf(id, from, to, buckets)), partial: false, missing: [], gaps, restamped });
  }
  if (path === '/live') {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    response.write(': hello\n\n');
    const client = { response, device: url.searchParams.get('device'), series: url.searchParams.get('series')?.split(',') };
    clients.add(client);
    request.on('close', () => clients.delete(client));
    return undefined;
  }
  return problem(response, 404, 'not-found');
}

async function file(response, url) {
  const path = normalize(url.pathname === '/' ? '/index.html' : url.pathname);
  try {
    const bytes = await readFile(join(DIST, path));
    response.writeHead(200, { 'content-type': TYPES[extname(path)] ?? 'application/octet-stream', 'content-security-policy': CSP, 'x-content-type-options': 'nosniff' });
    response.end(bytes);
  } catch {
    problem(response, 404, 'not-found');
  }
}

createServer((request, response) => {
  const url = new URL(request.url, 'http://mock');
  const done = url.pathname.startsWith('/api/v1/') ? api(request, response, url) : file(response, url);
  done.catch((error) => problem(response, 400, String(error)));
}).listen(PORT, '127.0.0.1', () => console.log(`http://127.0.0.1:${PORT}  admin / admin`));
