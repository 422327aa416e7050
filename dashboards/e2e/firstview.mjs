// The first view of a large fleet: devices, their states and newest values are written to a real hub, which goes on
// getting readings while a browser that has nothing in its cache opens the page.
const DEVICES = Number(process.env.TIDELINE_DEVICES ?? 10_000);
const POINTS = 5;
const RUNS = 5;
/** Lines of one request. */
const CHUNK = 1000;
/** One in so many is described, this many at once: each is a commit of its own. */
const DESCRIBED = 100;
const AT_ONCE = 16;
/** How often some of the fleet writes, ms; a round takes twenty of these. */
const PACE_MS = 1000;
const ROUND = 20;

const name = (n) => `meter-${String(n).padStart(5, '0')}`;
const chunks = (from, to, size) => Array.from({ length: Math.ceil((to - from) / size) }, (_, i) => [from + i * size, Math.min(to, from + (i + 1) * size)]);

async function write(url, token, from, to) {
  const now = Date.now();
  const fields = Array.from({ length: POINTS }, (_, p) => `p${p}=${(220 + 10 * Math.sin(now / 60_000 + p)).toFixed(1)}`).join(',');
  const body = Array.from({ length: to - from }, (_, i) => `m,host=${name(from + i)} ${fields} ${now}`).join('\n');
  const answer = await fetch(`${url}/api/v2/write?precision=ms&bucket=b`, { method: 'POST', headers: { authorization: `Bearer ${token}` }, body });
  if (!answer.ok) throw new Error(`write: ${answer.status} ${await answer.text()}`);
}

/** What people say of a device: where it is, and what it belongs to. */
async function describe(ask, n) {
  await ask('PATCH', `/devices/${name(n)}`, { title: `Meter ${n}`, site: `site ${n % 20}`, groups: ['power'], tags: { floor: String(n % 9) } });
}

/** The devices, each with a value at every point. */
export async function fill(url, ask) {
  const { token } = await ask('POST', '/tokens', { name: 'fleet', role: 'writer', devices: ['meter-*'] });
  for (const [from, to] of chunks(0, DEVICES, CHUNK)) await write(url, token, from, to);
  const some = Array.from({ length: Math.floor(DEVICES / DESCRIBED) }, (_, i) => i * DESCRIBED);
  for (const [from, to] of chunks(0, some.length, AT_ONCE)) await Promise.all(some.slice(from, to).map((n) => describe(ask, n)));
  return token;
}

/** Part of the fleet writes at each beat, until it is ended. */
export function keepWriting(url, token) {
  const size = Math.ceil(DEVICES / ROUND);
  let [beat, open, failed] = [0, true, null];
  const turn = async () => {
    const began = Date.now();
    const from = (beat % ROUND) * size;
    beat += 1;
    await write(url, token, from, Math.min(DEVICES, from + size)).catch((error) => { failed = error; });
    if (open) setTimeout(() => void turn(), Math.max(0, PACE_MS - (Date.now() - began)));
  };
  void turn();
  return () => {
    open = false;
    if (failed) throw failed;
  };
}

/** Notes when rows of the table were first painted, ms after the navigation began. */
function watchRows() {
  const look = () => {
    if (document.querySelector('[data-testid="device-row"]') === null) return requestAnimationFrame(look);
    // What was in the page before this frame is painted with it; the task after it is later than that.
    return requestAnimationFrame(() => { setTimeout(() => { window.firstRows = performance.now(); }); });
  };
  requestAnimationFrame(look);
}

async function open(context, url) {
  const page = await context.newPage();
  await page.addInitScript(watchRows);
  await page.goto(url, { waitUntil: 'commit' });
  await page.waitForFunction(() => window.firstRows !== undefined);
  await page.waitForFunction(() => document.querySelector('[data-testid="fleet-table"]').dataset.whole === 'true');
  const found = await page.evaluate(() => ({ ms: window.firstRows, whole: performance.now(), rows: Number(document.querySelector('[data-testid="fleet-table"]').getAttribute('aria-rowcount')) - 1 }));
  await page.close();
  return found;
}

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

/** Navigation start to first rows painted, with nothing in the cache and with all of it; medians. */
export async function firstView(browser, url, cookies) {
  const [cold, warm, whole] = [[], [], []];
  let rows = 0;
  for (let run = 0; run < RUNS; run += 1) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
    await context.addCookies(cookies);
    const first = await open(context, url);
    cold.push(first.ms);
    whole.push(first.whole);
    warm.push((await open(context, url)).ms);
    rows = first.rows;
    await context.close();
  }
  const told = (all) => `${median(all).toFixed(0)} ms (${all.map((ms) => ms.toFixed(0)).join(', ')})`;
  return `first view of ${rows} devices that write meanwhile: ${told(cold)}, with the app in the cache ${told(warm)}; all rows there ${told(whole)}`;
}
