// The mock hub's fleet at a glance: its own devices, and with FLEET=10000 as many more that are made up.
const MORE = Number(process.env.FLEET ?? 0);
const MINUTE = 60_000;
const HOUR = 3600_000;

const states = ['online', 'online', 'online', 'online', 'suspect', 'offline'];
function made(n) {
  const state = states[(n * 7) % states.length];
  return {
    id: `meter-${String(n).padStart(5, '0')}`, title: n % 3 === 0 ? `Meter ${n}` : '', agent: `gateway-${n % 97}`, site: ['north', 'south', 'west yard'][n % 3],
    groups: n % 5 === 0 ? ['power'] : [], tags: { floor: String(n % 9) }, about: { profile: 'eastron-sdm630', vendor: 'Eastron', model: 'SDM630', firmware: `1.${n % 4}.0` },
    software: 'edge-agent 0.1.0', state, last_reading_ms: Date.now() - (n % 60) * 1000, rate: 10, backlog: state === 'offline' ? n : 0,
    ledger: { produced: 10_000 + n, stored: 10_000, dropped: n % 40 === 0 ? 12 : 0, refused: 0, gaps: [], balanced: true },
  };
}
export const more = Array.from({ length: MORE }, (_, n) => made(n));
const beats = { online: 'o', suspect: 'g', offline: 'a', never: '.' };
const strip = (device, slots, lost) => '.'.repeat(Math.floor(slots / 4)) + (lost ? 'x' : 'o') + 'oos'.repeat(slots).slice(0, slots - Math.floor(slots / 4) - 2) + beats[device.state];

/** All devices by columns. */
export function table(own) {
  const all = [...own, ...more];
  const column = (pick) => all.map(pick);
  return {
    as_of_ms: Date.now(), id: column((d) => d.id), title: column((d) => d.title), agent: column((d) => d.agent), site: column((d) => d.site), groups: column((d) => d.groups),
    tags: column((d) => d.tags), profile: column((d) => d.about?.profile ?? ''), model: column((d) => d.about?.model ?? ''), firmware: column((d) => d.about?.firmware ?? ''),
    software: column((d) => d.software ?? ''), state: column((d) => d.state), revoked: column(() => false), last_reading_ms: column((d) => d.last_reading_ms), rate: column((d) => d.rate),
    backlog: column((d) => d.backlog), produced: column((d) => d.ledger.produced), stored: column((d) => d.ledger.stored), dropped: column((d) => d.ledger.dropped),
    refused: column((d) => d.ledger.refused), gaps: column((d) => d.ledger.gaps.length), balanced: column((d) => d.ledger.balanced),
    hours: column((d) => strip(d, 24, d.ledger.dropped > 0)), minutes: column((d) => strip(d, 60, false)),
  };
}

function history(width_ms, slots, online) {
  const newest = Math.floor(Date.now() / width_ms) * width_ms;
  // Nobody looked for some minutes: the lines break there.
  const t = Array.from({ length: slots }, (_, i) => newest - (slots - 1 - i) * width_ms).filter((_, i) => i < 8 || i > 14);
  const wave = (i) => 1 + Math.sin(i / 5);
  return {
    width_ms, t, online: t.map((_, i) => online - (i % 17 === 0 ? 1 : 0)), away: t.map(() => 1), fresh: t.map(() => online), rate: t.map((_, i) => (i === 0 ? null : Math.round(100 * wave(i)) / 10)),
    backlog: t.map((_, i) => (i % 20 > 14 ? (i % 20) * 9 : 0)), free_bytes: t.map((_, i) => 2.1e11 - i * 1e9),
  };
}

/** The first rows of the table. */
function first(own, rows) {
  return Object.fromEntries(Object.entries(table(own)).map(([name, column]) => [name, Array.isArray(column) ? column.slice(0, rows) : column]));
}

/** The figures with their history, and as many rows as are asked for. */
export function figures(own, rows) {
  const all = [...own, ...more];
  const of = (state) => all.filter((d) => d.state === state).length;
  const dropped = all.reduce((sum, d) => sum + d.ledger.dropped, 0);
  return {
    as_of_ms: Date.now(), since_ms: Date.now() - 40 * MINUTE,
    counts: { devices: all.length, agents: own.length, online: of('online'), suspect: of('suspect'), flapping: 0, offline: of('offline'), never: of('never'), revoked: 0 },
    freshness: { minute: all.length - 1, hour: 0, day: 0, older: 0, none: 1 }, rate: all.reduce((sum, d) => sum + d.rate, 0), backlog: all.reduce((sum, d) => sum + d.backlog, 0),
    losses: { gaps: 2, dropped, lost: 0, unbalanced: 0 }, dropped_by_hour: Array.from({ length: 24 }, (_, i) => (i === 23 ? dropped : 0)),
    storage: { free_bytes: 1.5e11, total_bytes: 2.5e11, store_bytes: 4.2e9, spools: 2, fullest: { agent: 'pump-7', bytes: 4e7, quota_bytes: 2.56e8 } },
    minutes: history(MINUTE, 60, of('online')), hours: history(HOUR, 40, of('online')), ...(rows > 0 ? { first: first(own, rows) } : {}),
  };
}
