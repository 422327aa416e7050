// What the mock hub answers to operators, and to commands of its devices, which it carries out at a walking pace.
import { configured } from './config.mjs';

const now = () => Date.now();
const BEGAN = now();
let count = 0;
const tokens = [{ id: 'e0', device: 'pump-8', expires_ms: BEGAN + 86_400_000, used: false }];
const users = [{ name: 'admin', role: 'admin', created_ms: BEGAN - 9e8 }, { name: 'wall', role: 'viewer', created_ms: BEGAN - 8e8 }];
const api = [{ id: 't1', name: 'grafana', role: 'viewer', created_ms: BEGAN - 7e8 }, { id: 't2', name: 'telegraf', role: 'writer', devices: ['line-*'], created_ms: BEGAN - 6e8 }];
const device = [{ id: 'd1', device: 'plug-3', created_ms: BEGAN - 5e8 }];
const letters = [{ id: 'l1', agent: 'pump-7', epoch: '00', first: 3, last: 4, batches: 2, rows: 120, bytes: 900, reason: 'the block ends too early', kept_ms: BEGAN - 6e6, state: 'refused' }];
const strangers = [{ agent: 'old-gateway', asked_ms: BEGAN - 20_000 }];
const lists = { '/enroll-tokens': tokens, '/users': users, '/tokens': api, '/device-tokens': device, '/dead-letters': letters };
const tiers = ['raw', '1m', '1h', '1d'].map((tier, i) => ({ tier, files: 12 - 3 * i, readings: 1e7, bytes: 4e6 / (i + 1), first_ms: BEGAN - 9e9, age: i < 1 ? '90d' : 'forever', size: i < 1 ? '20GB' : 'unlimited' }));
const checks = ['writer', 'decoder', 'flusher', 'reopener', 'log', 'flush', 'files', 'retention', 'letters'].map((name) => ({ name: `store ${name}`, state: 'fine', reason: null }));
checks[6] = { ...checks[6], state: 'degraded', reason: '1 files were found damaged since the start' };

const ok = (body, status = 200) => ({ status, body });
const GONE = { status: 204 };

let siteZone = 'Asia/Kathmandu';
const commands = [];
function seen(one) {
  const age = now() - one.created_ms;
  const busy = one.kind === 'sync' ? 2500 : 600;
  if (one.cancelled) return { ...one, state: 'cancelled', ended_ms: one.cancelled, cancel: true };
  if (age < 250) return one;
  const percent = Math.min(100, Math.round((age / busy) * 100));
  if (percent < 100) return { ...one, state: 'running', percent, changed_ms: now() };
  const output = one.kind === 'logs' ? '2026-11-22T10:00:00Z INFO session opened\n2026-11-22T10:00:01Z INFO 12 series defined\n' : '';
  const failed = one.kind === 'write' ? { error: { code: 'not_allowed', text: `no source takes writes of ${one.input.point}` } } : { result: { done: true } };
  return { ...one, state: failed.error ? 'failed' : 'succeeded', percent: 100, ended_ms: one.created_ms + busy, changed_ms: one.created_ms + busy, output, output_bytes: output.length, ...failed };
}

let emit = () => {};
/** Has changes of commands told to who listens. */
export function telling(tell) {
  emit = tell;
}
const told = new Map();
setInterval(() => {
  for (const { id, device, kind, state, attempt, percent, error, changed_ms, ended_ms } of commands.slice(0, 500).map(seen)) {
    const text = `${state} ${percent}`;
    if (told.get(id) !== text) emit({ id, device, kind, state, attempt, percent, error: error?.code ?? null, time_ms: ended_ms ?? changed_ms });
    told.set(id, text);
  }
}, 250);

function given(name, { kind, input, correlation_id = null }) {
  count += 1;
  commands.unshift({
    id: `c${String(count).padStart(6, '0')}`, device: name, agent: name, kind, input, state: 'queued', priority: 0, author: 'admin', correlation_id, created_ms: now(), deadline_ms: now() + 3600_000,
    changed_ms: now(), ended_ms: null, attempt: 1, attempts: 3, percent: null, error: null, result: null, output_bytes: 0, output: '', cancel: false,
  });
  return commands[0];
}

const star = (pattern, name) => new RegExp(`^${pattern.replaceAll('*', '.*')}$`).test(name);
const OPEN = ['queued', 'delivered', 'running'];
function listed(params) {
  const is = (name, value) => !params.has(name) || params.get(name).split(',').some((one) => star(one, value ?? ''));
  const fits = (one) => ['kind', 'device', 'author'].every((name) => is(name, one[name])) && is('correlation', one.correlation_id) && (is('state', one.state) || (params.get('state') === 'open' && OPEN.includes(one.state)));
  const all = commands.map(seen).filter((one) => fits(one) && (!params.has('cursor') || one.id < params.get('cursor')));
  const page = all.slice(0, Number(params.get('limit') ?? 200));
  return { commands: page, next: page.length < all.length ? page.at(-1).id : null };
}

async function commanded(method, path, body, params) {
  if (path === '/commands' && method === 'GET') return ok(listed(params));
  if (path === '/commands') {
    const { devices, command } = await body();
    const refused = (name) => ({ device: name, command: null, error: { code: 'too-many-commands', text: `64 commands wait for agent ${name} already; allowed are 64` } });
    return ok({ results: devices.map((name) => (name === 'spare-gateway' ? refused(name) : { device: name, command: given(name, command), error: null })) });
  }
  const list = /^\/devices\/([^/]+)\/commands$/.exec(path);
  if (list && method === 'POST') return ok(given(list[1], await body()), 201);
  if (list) return ok({ commands: commands.filter((one) => one.device === list[1]).map(seen), next: null });
  const single = /^\/commands\/([^/]+)(\/cancel)?$/.exec(path);
  const one = single && commands.find(({ id }) => id === single[1]);
  if (!one) return null;
  if (single[2]) one.cancelled = now();
  return ok(seen(one));
}

/** The answer, or null for what is none of this. */
export async function operate(method, path, params, body) {
  const command = await commanded(method, path, body, params);
  if (command) return command;
  if (path === '/sites') return ok({ sites: [{ id: 'north', devices: params.has('device') ? params.get('device').split(',').length : 3, zone: siteZone }], next: null });
  if (path === '/sites/north') {
    siteZone = (await body()).zone;
    return ok({ id: 'north', devices: 3, zone: siteZone });
  }
  const config = await configured(method, path, body);
  if (config) return config;
  const [, below, id] = /^(\/[a-z-]+)(?:\/([^/]+))?$/.exec(path) ?? [];
  const list = lists[below];
  if (list && method === 'DELETE') {
    list.splice(list.findIndex((one) => (one.id ?? one.name) === decodeURIComponent(id)), 1);
    return GONE;
  }
  if (path === '/enroll-tokens' && method === 'POST') {
    const { device: name, ttl_s } = await body();
    tokens.push({ id: `e${(count += 1)}`, device: name, expires_ms: now() + ttl_s * 1000, used: false });
    return ok({ token: `tle1.${'eyJoIjoibG9jYWxob3N0Ojg0NDMiLCJ'.repeat(14)}.3f2a`, device: name, expires_ms: now() + ttl_s * 1000 }, 201);
  }
  if (path === '/users' && method === 'POST') {
    const { name, role } = await body();
    users.push({ name, role, created_ms: now() });
    return ok(users.at(-1), 201);
  }
  if ((path === '/tokens' || path === '/device-tokens') && method === 'POST') {
    const made = await body();
    list.push({ id: `n${(count += 1)}`, ...made, created_ms: now() });
    return ok({ id: list.at(-1).id, token: `tlt_${list.at(-1).id}_uYw7Qd0kFzP1s8mJ` }, 201);
  }
  switch (path) {
    case '/enroll-tokens': case '/tokens': case '/device-tokens': return ok({ tokens: list });
    case '/users': return ok({ users });
    case '/dead-letters': return ok({ letters, unreadable: [], next: null });
    case '/strangers': return ok({ strangers });
    case '/health': return ok({ ready: true, version: '0.1.0', since_ms: BEGAN, checks, sessions: 3, streams: 1, https: '127.0.0.1:8443', quic: '127.0.0.1:4433', mqtt: null, registers_devices: true });
    case '/store': return ok({ agents: 3, series: 12, hot_rows: 5000, sealed_files: 12, sealed_rows: 1e7, sealed_bytes: 4e6, tiers, appended_rows: 1e6, duplicate_rows: 17, dead_letters: 1, poisoned: false });
    case '/store/verify': return ok({ files: 12, rows: 1e7, log_records: 90, log_rows: 5000, dead_letters: 1, problems: [], notes: [] });
    case '/events': return ok({ events: ['online', 'suspect', 'offline', 'online'].map((change, i) => ({ agent: 'pump-7', at_ms: BEGAN - i * 60_000, change, reason: ['heard', 'late', 'silent', 'heard'][i], changes: 1 })), next: params.has('cursor') ? null : '1.pump-7' });
    default: return null;
  }
}
