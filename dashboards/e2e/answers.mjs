// What the mock answers to questions about many readings: figures, SQL and files.
// It reads no SQL: any SELECT is answered with the means of two devices by minute.

const FUNCTIONS = {
  count: (b) => b.count.reduce((x, y) => x + y, 0),
  min: (b) => Math.min(...b.min),
  max: (b) => Math.max(...b.max),
  mean: (b) => b.mean.reduce((sum, v, i) => sum + v * b.count[i], 0) / FUNCTIONS.count(b),
  first: (b) => b.mean[0],
  last: (b) => b.last[b.last.length - 1],
};

function group(columns, functions) {
  const out = { name: columns.id, members: 1, t: [], quantiles: {} };
  if (columns.t.length === 0) return out;
  out.t.push(columns.t[0]);
  const sorted = [...columns.mean].sort((a, b) => a - b);
  for (const name of functions) {
    if (FUNCTIONS[name]) out[name] = [FUNCTIONS[name](columns)];
    else out.quantiles[name] = [sorted[Math.floor((sorted.length - 1) * Number(name.slice(1)) / 100)]];
  }
  out.quantiles_error = [0];
  return out;
}

export function aggregate({ select, functions, from, to }, columnsOf) {
  const columns = select.series.map((id) => columnsOf(id, Number(from), Number(to), 10_000));
  const groups = columns.map((own) => group(own, functions)).filter((own) => own.t.length > 0);
  return { tier: 'raw', width_ms: null, groups, partial: false, gaps: [], restamped: [], late: [] };
}

/** The answer, or null for what is no SELECT. */
export function sql(statement, columnsOf) {
  if (!/^\s*(select|with)\b/i.test(statement)) return null;
  const now = Date.now();
  const rows = ['pump-7/flow', 'cold-store-2/air/temperature'].flatMap((id) => {
    const { t, mean } = columnsOf(id, now - 3600_000, now, 60);
    return t.map((at, i) => [id.split('/', 1)[0], at, mean[i]]);
  });
  const columns = [{ name: 'device', type: 'string' }, { name: 'time', type: 'timestamp' }, { name: 'mean', type: 'double' }];
  return { columns, rows };
}

export function csv({ columns, rows }) {
  return [columns.map((column) => column.name), ...rows].map((row) => row.join(',')).join('\r\n');
}
