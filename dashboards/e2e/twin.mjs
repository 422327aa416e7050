// The twin of the mock hub's devices: pump-7 has one with a conflict, which a write resolves.
const at = Date.now() - 3_600_000;
const state = {
  desired: { motor: { speed: 1450 }, valve: { open: 55 } }, reported: { motor: { speed: 1400 }, starts: { $counter: 12 } },
  tags: { crew: { $set: ['anna', 'ben'] } }, notes: { bearing: { $text: 'Replaced in March.' } },
};
const steps = [
  { time_ms: at, author: 'anna', side: 'hub', section: 'desired', key: 'motor/speed', value: 1450 },
  { time_ms: at + 60_000, author: 'ben', side: 'agent', section: 'desired', key: 'valve/open', value: 70 },
  { time_ms: at + 61_000, author: 'anna', side: 'hub', section: 'desired', key: 'valve/open', value: 55 },
].map((step) => ({ ...step, taken_ms: null }));
let contested = true;

function merge(into, patch) {
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete into[name];
    else if (typeof value === 'object' && !Array.isArray(value)) into[name] = merge(into[name] ?? {}, value);
    else into[name] = value;
  }
  return into;
}

/** What the devices of a group share. */
const shared = { desired: { night: true, pressure: { max: 6.5 } }, reported: {}, tags: {}, notes: {} };

function answerShared(name, rest, patch) {
  for (const [section, own] of Object.entries(patch ?? {})) merge(shared[section], own);
  if (rest === '/conflicts') return { etag: '"1"', conflicts: [] };
  if (rest === '/history') return { steps: [], next: null };
  return { device: name, etag: '"1"', generation: 0, ...shared, delta: [], conflicts: 0, agreed: true, leaves: 2, bytes: 40, changes: 2, at_ms: null };
}

function answer(id) {
  const own = id === 'pump-7' ? state : { desired: {}, reported: {}, tags: {}, notes: {} };
  const delta = id === 'pump-7' ? [
    { key: 'motor/speed', desired: own.desired.motor.speed, reported: 1400, since_ms: at },
    { key: 'valve/open', desired: own.desired.valve.open, reported: null, since_ms: at + 61_000 },
  ] : [];
  return {
    device: id, etag: '"1"', generation: 0, ...own, delta, conflicts: id === 'pump-7' && contested ? 1 : 0, agreed: !contested,
    leaves: delta.length * 4, bytes: 200, changes: steps.length, at_ms: null,
  };
}

/** What is wanted of pump-7's configuration, by section and option. */
export function wantedConfig() {
  const all = Object.entries(state.desired.config ?? {});
  return all.flatMap(([section, own]) => Object.entries(own).map(([name, value]) => ({ option: `${section}.${name}`, value, source: 'device', author: 'admin', time_ms: at })));
}

/** What the hub answers to a request below `/devices/{id}/twin`. */
export function twin(id, rest, patch) {
  if (id.includes('/')) return answerShared(id, rest, patch);
  if (patch) {
    for (const [section, own] of Object.entries(patch)) merge(state[section], own);
    contested = contested && patch.desired?.valve === undefined;
  }
  if (rest === '/conflicts') {
    const values = [{ value: 55, author: 'anna', side: 'hub', time_ms: at + 61_000 }, { value: 70, author: 'ben', side: 'agent', time_ms: at + 60_000 }];
    return { etag: '"1"', conflicts: contested ? [{ section: 'desired', key: 'valve/open', values }] : [] };
  }
  return rest === '/history' ? { steps: [...steps].reverse(), next: null } : answer(id);
}
