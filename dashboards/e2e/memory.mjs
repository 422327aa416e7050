// Whether a page that is left open grows: what is left of its heap after a collection, each minute of a live view, and
// the line through the second half of that. Prints figures; what they must be, it does not say.
// Environment: TIDELINE_BIN (a folder with cloud-hub and edge-agent); TIDELINE_MINUTES (60) and CHROMIUM are optional.
import { launch, signIn, until } from './drive.mjs';
import { Site } from './real.mjs';

const MINUTES = Number(process.env.TIDELINE_MINUTES ?? 60);
const DEVICE = 'gateway-1';
const MIB = 1024 * 1024;

async function heap(session) {
  await session.send('HeapProfiler.collectGarbage');
  const { metrics } = await session.send('Performance.getMetrics');
  const of = (name) => metrics.find((metric) => metric.name === name).value;
  return { bytes: of('JSHeapUsedSize'), nodes: of('Nodes'), listeners: of('JSEventListeners') };
}

/** What comes with each minute, by least squares. */
function slope(values) {
  const middle = (values.length - 1) / 2;
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const [above, below] = values.reduce(([up, down], value, i) => [up + (i - middle) * (value - mean), down + (i - middle) ** 2], [0, 0]);
  return above / below;
}

async function watch(pages) {
  const seen = pages.map(() => []);
  for (let minute = 0; minute <= MINUTES; minute += 1) {
    if (minute > 0) await pages[0].page.waitForTimeout(60_000);
    for (const [i, { name, session }] of pages.entries()) {
      const now = await heap(session);
      seen[i].push(now.bytes);
      console.log(`${minute} min  ${name}: ${(now.bytes / MIB).toFixed(2)} MiB, ${now.nodes} nodes, ${now.listeners} listeners`);
    }
  }
  for (const [i, { name }] of pages.entries()) {
    const half = seen[i].slice(seen[i].length >> 1);
    console.log(`${name}: ${(slope(half) * 60 / MIB).toFixed(2)} MiB an hour by the second half of ${MINUTES} minutes, ${(seen[i].at(-1) / MIB).toFixed(2)} MiB at the end`);
  }
}

const site = await Site.open(process.env.TIDELINE_BIN ?? '');
const browser = await launch();
try {
  const hub = await site.hub();
  const who = await site.user(hub, 'memory');
  await site.agent(hub, DEVICE, '[http]\nlisten = ""\n');
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const pages = [];
  for (const [name, hash] of [['fleet', '#/'], ['device', `#/device/${DEVICE}`], ['board', `#/boards/device/${DEVICE}`]]) {
    const page = await context.newPage();
    page.setDefaultTimeout(120_000);
    if (pages.length === 0) await signIn(page, hub.url, who);
    await page.goto(`${hub.url}/${hash}`);
    await until(`a live ${name}`, async () => (await page.getByTestId('live-state').getAttribute('data-live')) === 'live');
    const session = await context.newCDPSession(page);
    await session.send('Performance.enable');
    pages.push({ name, page, session });
  }
  await watch(pages);
} finally {
  await browser.close();
  await site.close();
}
