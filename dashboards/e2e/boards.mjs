// Boards of the mock hub: kept in memory, with versions, shares and what names mean.
import { readFile } from 'node:fs/promises';

const read = async (name) => JSON.parse(await readFile(new URL(`../boards/${name}.json`, import.meta.url), 'utf8'));
const panel = (id, title, [x, y, w, h], show) => ({ id, title, x, y, w, h, show });
const device = [{ name: 'device', kind: 'device', label: 'Device', default: 'pump-7' }];
const plant = {
  version: 1, title: 'Plant', about: 'Every kind of panel.', variables: device, range: '5m',
  panels: [
    panel('lines', 'Bearing and air', [0, 0, 8, 8], { kind: 'line', series: ['$device/bearing/*', 'cold-store-2/air/*'], bands: [{ from: 49, to: 50, level: 'warn' }, { from: 50, level: 'bad' }], marks: ['restarts', 'configuration'] }),
    panel('now', 'Pressure', [8, 0, 2, 4], { kind: 'stat', series: ['$device/discharge/pressure'], spark: true }),
    panel('gauge', 'Current', [10, 0, 2, 5], { kind: 'gauge', series: ['$device/motor/current'], min: 0, max: 20, bands: [{ from: 12, level: 'warn' }, { to: 12, level: 'ok' }] }),
    panel('words', 'About', [8, 4, 2, 4], { kind: 'text', text: 'A text.\n<b>Not markup.</b>' }),
    panel('bars', 'All of the pump', [0, 8, 4, 6], { kind: 'bar', series: ['$device/*'], figure: 'mean' }),
    panel('states', 'Door', [4, 8, 8, 6], { kind: 'states', series: ['cold-store-2/door/open'] }),
    panel('hours', 'By hour', [0, 14, 6, 5], { kind: 'heat', series: ['$device/flow'], by: 'hour_day', figure: 'mean' }),
    panel('devices', 'Along time', [6, 14, 6, 6], { kind: 'heat', series: ['*/*temperature', '*/cpu/load'], by: 'series_time', figure: 'max' }),
    panel('map', 'Where', [6, 20, 6, 8], { kind: 'map', devices: ['*'] }),
    panel('plan', 'In the hall', [0, 25, 6, 8], { kind: 'map', devices: ['*'], plan: 'north' }),
    panel('table', 'Table', [0, 19, 6, 6], { kind: 'table', series: ['*'.concat('/*')], figures: ['last', 'mean', 'count'] }),
  ],
};
const shipped = { fleet: await read('fleet'), 'energy-meter': await read('energy-meter'), machine: await read('machine') };
const kept = new Map([['plant', { versions: [{ board: plant, by: 'anna', at_ms: Date.now() }], first: 1 }]]);
const shares = new Map();
const versionOf = (one) => one.first + one.versions.length - 1;

function answer(id) {
  const one = kept.get(id);
  const board = one ? one.versions.at(-1).board : shipped[id];
  if (!board) return null;
  const last = one?.versions.at(-1);
  const info = { id, title: board.title, about: board.about ?? '', panels: board.panels.length, shipped: !one, version: one ? versionOf(one) : 1, ...(last ? { by: last.by, changed_ms: last.at_ms } : {}) };
  return { info, board };
}
const fits = (pattern, name) => new RegExp(`^${pattern.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*')}$`).test(name);

/** The series of names, from all that there are. */
export function meant(patterns, variables, values, all) {
  const value = (name) => values[name] ?? variables.find((one) => one.name === name)?.default ?? '';
  const plain = (text) => text.replace(/^\$(\w+)\//, (_, name) => `${value(name) || '*'}/`).replace(/^@[a-z]+=[^/]+\//, '*/');
  const found = patterns.map((pattern) => ({ pattern, series: all.filter(({ id }) => fits(plain(pattern), id)).map(({ id }) => id), left_off: 0 }));
  const ids = new Set(found.flatMap(({ series }) => series));
  return { patterns: found, series: all.filter(({ id }) => ids.has(id)) };
}
const patternsOf = (board) => [...new Set(board.panels.flatMap(({ show }) => show.series ?? []))];
const not = (status, code) => ({ status, body: { type: 'about:blank', title: code, status, code, detail: code } });

function changed(id, board, tag, restored) {
  const one = kept.get(id);
  if (!one) return not(shipped[id] ? 409 : 404, shipped[id] ? 'board-shipped' : 'not-found');
  if (tag === undefined) return not(428, 'if-match-missing');
  if (tag !== '*' && tag !== `"${versionOf(one)}"`) return not(412, 'board-changed');
  one.versions.push({ board, by: 'admin', at_ms: Date.now(), restored });
  return { status: 200, body: answer(id) };
}

/** What the hub answers below `/boards`. */
export function boards(method, path, params, body, tag, { all, devices }) {
  const [, , id, rest, share] = path.split('/');
  if (id === undefined && method === 'GET') return { status: 200, body: { boards: [...Object.keys(shipped), ...kept.keys()].map((one) => answer(one).info) } };
  if (id === undefined) {
    const made = `made-${kept.size}`;
    kept.set(made, { versions: [{ board: body, by: 'admin', at_ms: Date.now() }], first: 1 });
    return { status: 201, body: answer(made) };
  }
  if (id === 'choices') return { status: 200, body: { sites: ['north'], groups: [], devices: devices.filter((one) => one.includes(params.get('q') ?? '')), more: false } };
  if (id === 'series') return { status: 200, body: meant(body.patterns, body.variables ?? [], body.values ?? {}, all) };
  if (id === 'device') return { status: 200, body: { version: 1, title: rest, panels: [panel('p0', 'All', [0, 0, 12, 7], { kind: 'line', series: [`${rest}/*`] })] } };
  if (rest === 'versions') {
    const one = kept.get(id);
    return { status: 200, body: { versions: one.versions.map(({ by, at_ms, restored }, i) => ({ version: one.first + i, by, at_ms, restored })).reverse() } };
  }
  if (rest === 'restore') return changed(id, kept.get(id).versions[body.version - kept.get(id).first].board, tag, body.version);
  if (rest === 'shares' && method === 'POST') {
    const token = `tlb_${shares.size}_mock`;
    const made = { id: String(shares.size), note: body.note, values: body.values, devices, expires_ms: Date.now() + body.ttl_s * 1000, created_ms: Date.now(), by: 'admin' };
    shares.set(token, { board: id, made });
    return { status: 201, body: { share: made, token } };
  }
  if (rest === 'shares' && method === 'DELETE') {
    for (const [token, { made }] of shares) if (made.id === share) shares.delete(token);
    return { status: 204 };
  }
  if (rest === 'shares') return { status: 200, body: { shares: [...shares.values()].filter((one) => one.board === id).map((one) => one.made) } };
  if (method === 'PUT') return changed(id, body, tag);
  if (method === 'DELETE') return { status: kept.delete(id) ? 204 : 404 };
  const found = answer(id);
  return found ? { status: 200, body: found } : not(404, 'not-found');
}

/** What a link shows; null when it has ended. */
export function shared(token, all) {
  const share = shares.get(token);
  const found = share && answer(share.board);
  if (!found) return null;
  const { board } = found;
  return { board, values: share.made.values, series: meant(patternsOf(board), board.variables ?? [], share.made.values, all), expires_ms: share.made.expires_ms };
}
