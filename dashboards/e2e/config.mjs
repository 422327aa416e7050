// What the mock hub says of configurations: pump-7 takes what is wanted at once.
import { wantedConfig } from './twin.mjs';

const BEGAN = Date.now();
const FORCE = [
  ['agent.trial_s', 120, 'default', null], ['batch.flush_interval_ms', 500, 'hub', 'template group/pumps'], ['batch.rows_max', 1000, 'default', null],
  ['hub.url', 'https://hub.example:8443', 'file', null], ['source.host.interval_ms', 1000, 'file', null], ['source.host.kind', 'host', 'file', null],
  ['spool.quota_mb', 64, 'environment', 'TIDELINE_AGENT_SPOOL_QUOTA_MB'], ['log.level', 'info', 'flag', '--log'], ['mqtt.password', '(set)', 'file', null],
];
const templates = new Map([['group/pumps', {
  name: 'group/pumps', members: ['pump-7'], current: { version: 2, layer: { batch: { flush_interval_ms: 500 } }, by: 'anna', at_ms: BEGAN - 3_600_000 },
  earlier: [{ version: 1, layer: { batch: { flush_interval_ms: 250 } }, by: 'ben', at_ms: BEGAN - 7_200_000 }],
}]]);
const done = ({ members }) => members.map((device) => ({ device, etag: '1f', code: null, detail: null }));

/** Sets a template, or removes it. */
function change(method, name, { layer } = {}) {
  const before = templates.get(name);
  if (method === 'DELETE') {
    templates.delete(name);
    return before ? { status: 200, body: { results: done(before) } } : { status: 404, body: { code: 'no-such-template', detail: name } };
  }
  if (JSON.stringify(layer).includes('null')) return { status: 400, body: { code: 'bad-config', detail: 'config.batch.rows_max: null is no value; a template has what is to be set' } };
  const current = { version: (before?.current.version ?? 0) + 1, layer, by: 'admin', at_ms: Date.now() };
  const template = { name, members: before?.members ?? [], current, earlier: before ? [...before.earlier, before.current] : [] };
  templates.set(name, template);
  return { status: 200, body: { template, results: done(template) } };
}

function configOf(device) {
  if (device !== 'pump-7') return { device, agreed: true, values: [], state: null, version: null, reason: null, refused: null, needs_restart: [], unwell: [], in_force: null };
  const own = wantedConfig();
  const options = FORCE.map(([option, value, source, from]) => {
    const set = own.find((one) => one.option === option);
    return set ? { option, value: set.value, source: 'hub', from: 'admin' } : { option, value, source, from };
  });
  const values = [...own, { option: 'batch.flush_interval_ms', value: 500, source: 'template group/pumps', author: 'template group/pumps', time_ms: BEGAN - 3_600_000 }];
  return {
    device, agreed: true, values, state: 'applied', version: '1f', reason: null, refused: null, needs_restart: ['mqtt'], unwell: [],
    in_force: { told_ms: BEGAN, left_out: 0, options },
  };
}

/** The answer, or null for what is none of this. */
export async function configured(method, path, body) {
  const named = /^\/config-templates\/([a-z]+\/[^/]+)$/.exec(path);
  const name = named ? decodeURIComponent(named[1]) : null;
  if (name !== null && method !== 'GET') return change(method, name, method === 'PUT' ? await body() : undefined);
  const found = shown(path, name);
  return found === null ? null : { status: 200, body: found };
}

function shown(path, name) {
  const own = /^\/devices\/([^/]+)\/config$/.exec(path);
  if (own) return configOf(decodeURIComponent(own[1]));
  const listed = (template) => ({ ...template, earlier: [], current: { ...template.current, layer: undefined } });
  if (path === '/config-templates') return { templates: [...templates.values()].map(listed) };
  return templates.get(name) ?? null;
}
