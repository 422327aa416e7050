// Measures the web app in a real browser on a real hub with a real agent, all started here, and prints figures; what
// they must be, it does not say. `node e2e/measure.mjs [first] [panels] [lines]`; all without a name.
// Environment: TIDELINE_BIN (a folder with cloud-hub and edge-agent, in release); CHROMIUM, TIDELINE_DEVICES (10000),
// TIDELINE_POINTS (100000) and TIDELINE_SECONDS (10) are optional.
import { execFileSync } from 'node:child_process';
import { cpus } from 'node:os';
import { launch, signIn, until } from './drive.mjs';
import { fill, firstView, keepWriting } from './firstview.mjs';
import { livePanels, longLines } from './panels.mjs';
import { Site } from './real.mjs';

const DEVICE = 'gateway-1';
const wanted = process.argv.slice(2);
const PARTS = ['first', 'panels', 'lines'];
const strange = wanted.find((part) => !PARTS.includes(part));
if (strange) throw new Error(`there is no part ${strange}; the parts are ${PARTS.join(', ')}`);
const is = (part) => wanted.length === 0 || wanted.includes(part);

const commit = () => execFileSync('git', ['describe', '--always', '--dirty'], { encoding: 'utf8' }).trim();

/** Asks the hub with a token that may do all. */
function asker(url, token) {
  return async (method, path, body) => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json', 'if-match': '*' };
    const answer = await fetch(`${url}/api/v1${path}`, { method, headers, ...(body ? { body: JSON.stringify(body) } : {}) });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer.status === 204 ? null : answer.json();
  };
}

async function measure(site, browser) {
  const hub = await site.hub();
  const who = await site.user(hub, 'measure');
  const ask = asker(hub.url, await hub.say(['token', 'create', 'measure', '--role', 'admin']));
  await site.agent(hub, DEVICE, '[http]\nlisten = ""\n');
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  page.setDefaultTimeout(120_000);
  await signIn(page, hub.url, who);
  await until('a live device', async () => (await ask('GET', `/series?device=${DEVICE}`)).series.length > 20);
  if (is('panels')) console.log(await livePanels(browser, page, ask, { url: hub.url, device: DEVICE }));
  if (is('lines')) console.log(await longLines(browser, page, ask, { url: hub.url }));
  const cookies = await context.cookies();
  await context.close();
  if (!is('first')) return;
  const end = keepWriting(hub.url, await fill(hub.url, ask));
  console.log(await firstView(browser, hub.url, cookies));
  end();
}

console.log(`machine ${cpus()[0]?.model ?? 'unknown'} × ${cpus().length}\ncommit  ${commit()}`);
const site = await Site.open(process.env.TIDELINE_BIN ?? '');
const browser = await launch();
try {
  console.log(`browser ${browser.version()}\n`);
  await measure(site, browser);
} finally {
  await browser.close();
  await site.close();
}
