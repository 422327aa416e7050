// Readings of the mock hub: those of the past as rows and as buckets, and those that come, by an event stream.
import {
  BACKFILL_S, BEGAN, cut, deviceOf, gapsOf, hasNone, HISTORY_MS, LATE, numberQuality, numberRows, OFFLINE_S, POINTS, qualityAt, RESTAMPED, rowsOf, second,
  stateAt, statesOf, stored, valueAt,
} from './plant.mjs';

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

export function columnsOf(id, from, to, buckets) {
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
export function emit(name, data, device) {
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

/** The answer to a question for readings, or null for what is none. */
export function readings(params, path) {
  if (path !== '/query') return null;
  const [from, to, buckets] = ['from', 'to', 'buckets'].map((name) => Number(params.get(name)));
  const ids = params.get('series').split(',');
  const gaps = ids.some((id) => id.startsWith('pump-7/')) ? gapsOf(POINTS['pump-7'].length).map((gap) => ({ device: 'pump-7', ...gap })) : [];
  const restamped = ids[0].startsWith('pump-7/') ? RESTAMPED.map((one) => ({ device: 'pump-7', ...one })) : [];
  const late = ids.some((id) => id.startsWith('pump-7/')) ? LATE.map((one) => ({ device: 'pump-7', ...one })) : [];
  if (!params.has('buckets')) return { ...rawAnswer(ids[0].split('/', 1)[0], ids, params), missing: [], gaps, restamped, late };
  const numbers = ids.filter((id) => POINTS[id.split('/', 1)[0]].some(([point]) => id.endsWith(`/${point}`)));
  return { series: numbers.map((id) => columnsOf(id, from, to, buckets)), partial: false, missing: [], gaps, restamped, late };
}

/** Opens an event stream of what comes. */
export function live(request, response, params) {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  response.write(': hello\n\n');
  const client = { response, device: params.get('device'), series: params.get('series')?.split(',') };
  clients.add(client);
  request.on('close', () => clients.delete(client));
}
