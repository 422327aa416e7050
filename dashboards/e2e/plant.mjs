// The mock hub's devices: what they read, when pump-7 is away, what was dropped, and what the registry says of each.
// pump-7 goes offline for 15 s of each minute; when it is back, fresh readings come first and the backlog follows.

export const BEGAN = Date.now();
export const HISTORY_MS = 3 * 3600_000;
export const OFFLINE_S = [20, 35];
export const BACKFILL_S = 41;
export const RESTAMPED = [
  { from_ms: BEGAN - 280_000, to_ms: BEGAN - 200_000, shift_ms: 1_763_719_200_000 },
  { from_ms: BEGAN - 90_000, to_ms: BEGAN - 60_000, shift_ms: null },
];
/** A backlog that came long after its time. */
export const LATE = [
  { from_ms: BEGAN - 190_000, to_ms: BEGAN - 160_000, rows: 150, delay_ms: 185_000, came_from_ms: BEGAN - 8_000, came_to_ms: BEGAN - 5_000 },
];
const DROPPED = { from_ms: BEGAN - 150_000, to_ms: BEGAN - 110_000 };

export const POINTS = {
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
export const statesOf = (device) => STATES[device] ?? [];
export const qualityAt = (ms) => (Math.floor(ms / 1000) % 300 < 40 ? 'uncertain' : Math.floor(ms / 1000) % 300 > 280 ? 'bad' : 'good');
export const stateAt = (state, ms) => state.at(Math.floor(ms / 1000));

/** The rows of states in [from, to], from its beginning. */
export function rowsOf(device, state, from, to) {
  const now = Date.now();
  const step = state.every * 1000;
  const rows = [];
  for (let ms = Math.ceil(Math.max(from, BEGAN - HISTORY_MS) / step) * step; ms <= Math.min(to, now); ms += step) {
    if (stored(device, ms, now)) rows.push({ t: ms, v: stateAt(state, ms), quality: qualityAt(ms) });
  }
  return rows;
}

/** A reading in fifty of numbers is doubtful, one has no value; buckets leave them out. */
export const numberQuality = (p, ms) => (Math.floor(ms / 1000 + p[0].length) % 50 === 7 ? 'uncertain' : Math.floor(ms / 1000) % 97 === 3 ? 'bad' : 'good');
export const hasNone = (ms) => Math.floor(ms / 1000) % 61 === 5;

export function numberRows(device, p, from, to) {
  const now = Date.now();
  const rows = [];
  for (let ms = Math.ceil(Math.max(from, BEGAN - HISTORY_MS) / 1000) * 1000; ms <= Math.min(to, now); ms += 1000) {
    if (stored(device, ms, now)) rows.push({ t: ms, v: hasNone(ms) ? null : valueAt(p, ms), quality: numberQuality(p, ms) });
  }
  return rows;
}

export const second = (ms) => ((ms - BEGAN) / 1000) % 60;
export const cut = (device, ms) => device === 'pump-7' && ms > BEGAN && second(ms) >= OFFLINE_S[0] && second(ms) < OFFLINE_S[1];

export function valueAt([name, , base, swing, period], ms) {
  const noise = Math.sin(ms * 12.9898) * 43758.5453;
  const value = (base + swing * Math.sin((ms / 1000 / period) * 2 * Math.PI) + swing * 0.25 * (noise - Math.floor(noise) - 0.5));
  return Number(value.toFixed(WHOLE.has(name) ? 0 : 3));
}

/** Whether the hub has the reading of `ms` by `now`. */
export function stored(device, ms, now) {
  if (device === 'pump-7' && ms >= DROPPED.from_ms && ms < DROPPED.to_ms) return false;
  if (!cut(device, ms)) return true;
  const start = ms - (second(ms) - OFFLINE_S[0]) * 1000;
  return now >= start + (BACKFILL_S - OFFLINE_S[0]) * 1000;
}

/** What was dropped, in two stretches with a cause each. */
export function gapsOf(points) {
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

/** What was said of devices here. */
const marks = {};
export function mark(id, { title, site, groups, tags }) {
  const was = deviceOf(id);
  const all = Object.entries({ ...was.tags, ...tags }).filter(([, value]) => value !== null);
  const now = (value, before) => (value === undefined ? before : (value ?? ''));
  marks[id] = { title: now(title, was.title), site: now(site, was.site), groups: groups ?? was.groups, tags: Object.fromEntries(all) };
}

const DAY_MS = 86_400_000;
/** A session whose certificate ends soon. */
const sessionOf = (now) => ({
  remote: '192.0.2.7:50123', certificate: { sha256: '5e'.repeat(32), not_before_ms: now - 352 * DAY_MS, not_after_ms: now + 13 * DAY_MS },
  waiting_bytes: 81_920, waiting_batches: 2, credit_bytes: 16_695_296, credit_most_bytes: 16_777_216,
});
const uplinkOf = (now, offline) => ({
  as_of_ms: now - 4000, switches: 1, spool_bytes: 10_485_760, spool_quota_bytes: 67_108_864,
  ways: [
    { address: 'hub.example:4433', transport: 'quic', carries: true, breaker: offline ? 'open' : 'closed', failures: offline ? 4 : 0, wait_ms: 1000, rtt_ms: 38.5, loss: 0.004 },
    { address: 'hub.example:8883', transport: 'mqtt', carries: false, breaker: 'closed', failures: 0, wait_ms: 0, rtt_ms: null, loss: 0 },
  ],
});

export function deviceOf(id) {
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
    session: points && !offline ? sessionOf(now) : undefined, uplink: points ? uplinkOf(now, offline) : null,
    last_seen_ms: points ? last : null, last_reading_ms: points ? Math.floor(last) : null,
    rate: offline ? 0 : points, backlog: book.pending, ledger: book, ...marks[id],
  };
}

export function seriesOf(device) {
  const now = Math.floor(Date.now() / 1000) * 1000;
  const numbers = (POINTS[device] ?? []).map((p) => ({ id: `${device}/${p[0]}`, device, point: p[0], unit: p[1], type: WHOLE.has(p[0]) ? 'int' : 'float', name: '', last: { t: now, v: valueAt(p, now) }, count: HISTORY_MS / 1000 }));
  const states = statesOf(device).map((state) => {
    const last = rowsOf(device, state, now - 60_000, now).at(-1) ?? null;
    return { id: `${device}/${state.point}`, device, point: state.point, unit: '', type: state.type, name: state.name, last, count: HISTORY_MS / 1000 };
  });
  return [...numbers, ...states];
}

/** What the profile of a device says: a command with a range, and one that asks once more. */
export function profileOf(device) {
  const command = { title: '', value: null, kind: 'float', unit: '%', min: 0, max: 100, values: [], confirm: false, timeout_ms: null, interlocks: [] };
  const commands = [
    { ...command, name: 'speed', title: 'Set the speed', point: 'speed/set' },
    { ...command, name: 'stop', title: 'Stop the pump', point: 'run/set', kind: 'bool', unit: '', min: null, max: null, value: false, confirm: true, interlocks: ['speed is 20 or less'] },
  ];
  const firmware = { method: 'none', versions: 'semver', range: '', hardware: [], suffixes: [], bytes_max: null, magic: null, url_point: null };
  return { device, profile: 'linux-host', origin: 'given', version: 1, agreement: 'other', sheet: { points: [], commands, firmware, notes: [] } };
}
