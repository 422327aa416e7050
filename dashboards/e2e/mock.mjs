// A stand-in for the hub to develop against: serves dist/ under the hub's
// content security policy and the shapes of /api/v1 with made-up readings. Each
// area has a file of its own beside this one. PORT (default 8099).
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { figures, table } from './fleet.mjs';
import { operate, telling } from './operate.mjs';
import { twin } from './twin.mjs';
import { aggregate, csv, sql } from './answers.mjs';
import { boards, shared } from './boards.mjs';
import { BEGAN, deviceOf, mark, POINTS, profileOf, seriesOf } from './plant.mjs';
import { place, places } from './map.mjs';
import { columnsOf, emit, live, readings } from './readings.mjs';

const PORT = Number(process.env.PORT ?? 8099);
const DIST = new URL('../dist', import.meta.url).pathname;
const CSP = "default-src 'self'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'";
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };

function json(response, status, body, headers = {}) {
  response.writeHead(status, { 'content-type': status < 400 ? 'application/json' : 'application/problem+json', ...headers });
  response.end(JSON.stringify(body));
}
const problem = (response, status, code) => json(response, status, { type: 'about:blank', title: code, status, code, detail: code });

telling((event) => emit('command', event, event.device));

async function bodyOf(request) {
  let body = '';
  for await (const chunk of request) body += chunk;
  return JSON.parse(body);
}

/** Answers what is about places; false where it is not. */
async function placed(request, response, url, path) {
  const found = await places(request, path, url.searchParams, Object.keys(POINTS).map(deviceOf));
  if (found?.image) response.writeHead(200, { 'content-type': found.media, 'x-content-type-options': 'nosniff' }).end(found.image);
  else if (found?.status === 204) response.writeHead(204).end();
  else if (found) json(response, found.status, found.body);
  return found !== null;
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
    if (path.startsWith('/shared/map') || path === '/shared/plan') return placed(request, response, url, path.slice('/shared'.length));
    return read(request, response, url, path.slice('/shared'.length));
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
  if (path === '/fleet') return json(response, 200, figures(own(), Number(url.searchParams.get('rows') ?? 0)));
  if (path === '/fleet/devices') return json(response, 200, table(own()));
  if (await placed(request, response, url, path)) return undefined;
  const operated = await operate(request.method, path, url.searchParams, () => bodyOf(request));
  if (operated) return operated.status === 204 ? response.writeHead(204).end() : json(response, operated.status, operated.body);
  if (path === '/devices') return json(response, 200, { devices: Object.keys(POINTS).map(deviceOf), next: null });
  if (path.startsWith('/devices/') && path.endsWith('/events')) {
    return json(response, 200, { events: [{ at_ms: BEGAN - 60_000, change: 'online', reason: 'heard', changes: 1 }] });
  }
  const about = /^\/(device|site|group)s\/([^/]+)\/twin(\/[a-z]+)?$/.exec(path);
  if (about) {
    const name = `${about[1] === 'device' ? '' : `${about[1]}/`}${decodeURIComponent(about[2])}`;
    return json(response, 200, twin(name, about[3] ?? '', request.method === 'PATCH' ? await bodyOf(request) : null));
  }
  if (path.startsWith('/devices/') && path.endsWith('/profile')) return json(response, 200, profileOf(decodeURIComponent(path.split('/')[2])));
  if (path.startsWith('/devices/')) {
    const id = decodeURIComponent(path.slice('/devices/'.length));
    if (request.method === 'PATCH') {
      const patch = await bodyOf(request);
      if ((patch.site ?? '').length > 64) return json(response, 400, { code: 'bad-mark', detail: `site: ${JSON.stringify(patch.site)} has ${patch.site.length} bytes; allowed are 64, without control characters` });
      mark(id, patch);
      place(id, patch);
    }
    return POINTS[id] ? json(response, 200, deviceOf(id)) : problem(response, 404, 'no-such-device');
  }
  if (path === '/series') {
    const device = url.searchParams.get('device');
    const words = (url.searchParams.get('q') ?? '').toLowerCase().split(/\s+/);
    const found = (device ? [device] : Object.keys(POINTS)).flatMap(seriesOf).filter(({ id, name, unit }) => words.every((word) => `${id}\n${name}\n${unit}`.toLowerCase().includes(word)));
    const most = Number(url.searchParams.get('limit') ?? 200);
    return json(response, 200, { series: found.slice(0, most), next: found.length > most ? found[most - 1].id : null });
  }
  if (path === '/last') {
    const ids = url.searchParams.get('series').split(',');
    const now = Date.now();
    const found = all().filter(({ id, last }) => ids.includes(id) && last).map(({ id, unit, type, last }) => ({ id, unit, type, ...last, age_ms: now - last.t }));
    return json(response, 200, { at_ms: now, series: found, next: null });
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
  return read(request, response, url, path);
}

/** Readings of the past and those that come, by a login or by a link. */
function read(request, response, url, path) {
  if (path === '/live') return live(request, response, url.searchParams);
  const found = readings(url.searchParams, path);
  return found ? json(response, 200, found) : problem(response, 404, 'not-found');
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
