// Whether a page that is left open grows: what is left of its heap after a collection, at each look at a live view, and
// the line through the second half of that, when the range of five minutes is full. Prints figures; what they must be, it does not say.
// `TIDELINE_MINUTES=10 TIDELINE_PACE=6` has as many readings as an hour; what a page does by the clock it does a sixth as often.
// Environment: TIDELINE_BIN (a folder with cloud-hub and edge-agent, in release); TIDELINE_MINUTES (60), TIDELINE_PACE (1: readings a second
// of each point), CHROMIUM and TIDELINE_DIST are optional.
import { execFileSync } from 'node:child_process';
import { cpus } from 'node:os';
import { launch, signIn, until } from './drive.mjs';
import { Site } from './real.mjs';

const MINUTES = Number(process.env.TIDELINE_MINUTES ?? 60);
const PACE = Number(process.env.TIDELINE_PACE ?? 1);
/** Each minute's readings at the usual pace. */
const LOOK_MS = 60_000 / PACE;
const LOOKS = Math.round((MINUTES * 60_000) / LOOK_MS);
const DEVICE = 'gateway-1';
const MIB = 1024 * 1024;

async function heap(session) {
  // What only a first collection lets go, a second one takes.
  for (let n = 0; n < 2; n += 1) await session.send('HeapProfiler.collectGarbage');
  const { metrics } = await session.send('Performance.getMetrics');
  const of = (name) => metrics.find((metric) => metric.name === name).value;
  return { bytes: of('JSHeapUsedSize'), nodes: of('Nodes'), listeners: of('JSEventListeners') };
}

/** What comes with each look, by least squares. */
function slope(values) {
  const middle = (values.length - 1) / 2;
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const [above, below] = values.reduce(([up, down], value, i) => [up + (i - middle) * (value - mean), down + (i - middle) ** 2], [0, 0]);
  return above / below;
}

async function watch(pages) {
  const seen = pages.map(() => []);
  for (let look = 0; look <= LOOKS; look += 1) {
    if (look > 0) await pages[0].page.waitForTimeout(LOOK_MS);
    for (const [i, { name, page, session }] of pages.entries()) {
      // One that is hidden draws nothing, and would be flat for that.
      if (await page.evaluate(() => document.hidden)) throw new Error(`the page ${name} is hidden`);
      const now = await heap(session);
      seen[i].push(now.bytes);
      console.log(`${((look * LOOK_MS) / 60_000).toFixed(1)} min  ${name}: ${(now.bytes / MIB).toFixed(2)} MiB, ${now.nodes} nodes, ${now.listeners} listeners`);
    }
  }
  for (const [i, { name }] of pages.entries()) {
    const half = seen[i].slice(seen[i].length >> 1);
    // A look is a minute of readings, whatever the pace.
    const hour = slope(half) * 60;
    console.log(`${name}: ${(hour / MIB).toFixed(2)} MiB in an hour of readings (${((hour / seen[i].at(-1)) * 100).toFixed(1)} %), by the second half of ${MINUTES} minutes at ${PACE} readings a second of each point; ${(seen[i].at(-1) / MIB).toFixed(2)} MiB at the end`);
  }
}

/** Each page that is live, with something in it; what is in Explore is the device's first series. */
async function opened(context, hub, who) {
  const first = await context.newPage();
  await signIn(first, hub.url, who);
  const series = await until('series of the device', async () => {
    const found = await first.evaluate(async (id) => (await (await fetch(`/api/v1/series?device=${id}`)).json()).series, DEVICE);
    return found.length > 20 && found.filter(({ type }) => type !== 'text').slice(0, 4).map(({ id }) => id).join();
  });
  const all = [['fleet', '#/'], ['device', `#/device/${DEVICE}?range=5m`], ['board', `#/boards/device/${DEVICE}?range=5m`], ['explore', `#/explore?s=${encodeURIComponent(series)}&range=5m`]];
  const pages = [];
  for (const [name, hash] of all) {
    const page = pages.length === 0 ? first : await context.newPage();
    page.setDefaultTimeout(120_000);
    await page.goto(`${hub.url}/${hash}`);
    await until(`a live ${name}`, async () => (await page.getByTestId('live-state').getAttribute('data-live')) === 'live');
    const session = await context.newCDPSession(page);
    await session.send('Performance.enable');
    pages.push({ name, page, session });
  }
  return pages;
}

if (!(MINUTES > 0 && PACE > 0)) throw new Error('TIDELINE_MINUTES and TIDELINE_PACE are to be numbers above 0');
console.log(`machine ${cpus()[0]?.model ?? 'unknown'} × ${cpus().length}\ncommit  ${execFileSync('git', ['describe', '--always', '--dirty'], { encoding: 'utf8' }).trim()}`);
const site = await Site.open(process.env.TIDELINE_BIN ?? '');
const browser = await launch();
try {
  console.log(`browser ${browser.version()}\n`);
  const hub = await site.hub();
  const who = await site.user(hub, 'memory');
  await site.agent(hub, DEVICE, `[http]\nlisten = ""\n[[source]]\nkind = "host"\ninterval_ms = ${Math.round(1000 / PACE)}\n`);
  await watch(await opened(await browser.newContext({ viewport: { width: 1280, height: 800 } }), hub, who));
} finally {
  await browser.close();
  await site.close();
}
