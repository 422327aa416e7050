// Drives the web app in a real browser against a running hub: signs in, finds
// the device in the fleet, opens it, and waits for a chart that grows by itself.
// Environment: TIDELINE_URL, TIDELINE_USER, TIDELINE_PASSWORD, TIDELINE_DEVICE;
// TIDELINE_SHOTS (a folder for screenshots) and CHROMIUM are optional.
import { violations } from './access.mjs';
import { boards } from './board.mjs';
import { WAIT_MS, launch, run, until } from './drive.mjs';
import { explore } from './explore.mjs';
import { frame } from './frame.mjs';
import { looker, WIDE } from './looks.mjs';
import { mapping } from './mapping.mjs';
import { commanding, configuring, marking, fleetList, operating } from './operator.mjs';
import { sharing } from './shared.mjs';
import { timeControl } from './time.mjs';

const URL_ = process.env.TIDELINE_URL ?? 'http://127.0.0.1:8080';
const USER = process.env.TIDELINE_USER ?? 'admin';
const PASSWORD = process.env.TIDELINE_PASSWORD ?? '';
const DEVICE = process.env.TIDELINE_DEVICE ?? '';
const SHOTS = process.env.TIDELINE_SHOTS ?? '';

const complaints = [];
/** What a page begins with, who is signed in and the fleet, is answered with 401 until the sign-in: no fault. */
let signedIn = false;

function watch(page) {
  const isEarly = (url) => ['/api/v1/session', '/api/v1/fleet'].includes(new URL(url).pathname);
  page.on('console', (message) => {
    if (message.type() !== 'error') return;
    const url = message.location().url;
    if (!signedIn && url && isEarly(url)) return;
    complaints.push(`console: ${message.text()} (${url})`);
  });
  page.on('pageerror', (error) => complaints.push(`exception at ${page.url()}: ${error.message}`));
  page.on('requestfailed', (request) => {
    const reason = request.failure()?.errorText ?? '';
    // Leaving a page closes its event stream and its queries: that is no failure.
    if (reason === 'net::ERR_ABORTED') return;
    complaints.push(`failed: ${request.method()} ${request.url()} ${reason}`);
  });
  page.on('response', (response) => {
    if (response.status() < 400) return;
    if (!signedIn && isEarly(response.url()) && response.status() === 401) return;
    complaints.push(`status ${response.status()}: ${response.request().method()} ${response.url()}`);
  });
}

const { shot, looks, looksBySystem } = looker(SHOTS, complaints);

async function signIn(page) {
  await page.goto(URL_, { waitUntil: 'domcontentloaded' });
  await page.getByTestId('login-user').fill(USER);
  await looksBySystem(page, 'login');
  await page.getByTestId('login-password').fill(PASSWORD);
  const [answer] = await Promise.all([
    page.waitForResponse((r) => r.url().endsWith('/api/v1/session') && r.request().method() === 'POST'),
    page.getByTestId('login-submit').click(),
  ]);
  if (!answer.ok()) throw new Error(`sign-in was answered with ${answer.status()}`);
  signedIn = true;
}

async function fleet(page) {
  await page.getByTestId('fleet-table').waitFor();
  const row = page.locator(`[data-testid="device-row"][data-device="${DEVICE}"]`);
  await row.waitFor();
  const state = await row.getByTestId('device-state').innerText();
  await looks(page, 'fleet');
  console.log(`ok   fleet: ${await fleetList(page, { until, device: DEVICE })}`);
  await row.getByRole('link').click();
  return state.trim();
}

/** Every chart's drawn points and newest time. */
function charts(page) {
  return page.getByTestId('chart').evaluateAll((all) => all.map((el) => ({
    series: el.dataset.series, points: Number(el.dataset.points), newest: Number(el.dataset.newest),
  })));
}

async function liveChart(page) {
  const first = await until('a chart with more than one point', async () => {
    const seen = (await charts(page)).filter((c) => c.points > 1);
    return seen.length > 0 ? seen : null;
  });
  await shot(page, 'device');
  // Drawn anew, not made anew: a new plot forgets where the mouse rests, and its hover text goes.
  const plot = page.locator('.u-wrap').first();
  await plot.evaluate((el) => { el.dataset.kept = 'yes'; });
  const grown = await until('a chart that grows', async () => {
    for (const now of await charts(page)) {
      const then = first.find((c) => c.series === now.series);
      if (!then) continue;
      if (now.points > then.points) return `${now.series} grew from ${then.points} to ${now.points} points`;
      // A range that is full loses a point for each it gains; then its newest time tells.
      const full = then.points >= 200;
      if (full && now.newest > then.newest) return `${now.series} moved on by ${now.newest - then.newest} ms with ${now.points} points`;
    }
    return null;
  });
  if (await plot.getAttribute('data-kept') !== 'yes') throw new Error('the plot was made anew while it grew');
  return grown;
}

/** What is written in the browser is at the hub, and is shown as wanted and not reported. */
async function twin(page) {
  const key = `smoke/lamp-${Date.now() % 1000}`;
  await page.getByTestId('twin-key').fill(key);
  await page.getByTestId('twin-value').fill('on');
  await page.getByTestId('twin-set').click();
  const row = page.getByTestId('twin').locator('tr', { hasText: key });
  await row.waitFor();
  await looks(page, 'twin');
  return (await row.innerText()).replaceAll(/\s+/g, ' ').trim();
}

async function main() {
  if (!DEVICE) throw new Error('TIDELINE_DEVICE is not set');
  const browser = await launch();
  try {
    const page = await browser.newPage({ viewport: WIDE, ignoreHTTPSErrors: true });
    page.setDefaultTimeout(WAIT_MS);
    watch(page);
    await signIn(page);
    console.log(`ok   signed in as ${USER}`);
    console.log(`ok   fleet shows ${DEVICE}: ${await fleet(page)}`);
    console.log(`ok   live: ${await liveChart(page)}`);
    await looks(page, 'device-live');
    console.log(`ok   twin: ${await twin(page)}`);
    if (await page.getByTestId('shared').count() > 0) console.log(`ok   shared: ${await sharing(page, { looks })}`);
    console.log(`ok   marks: ${await marking(page, { until, looks, complaints })}`);
    console.log(`ok   configuration: ${await configuring(page, { until, looks })}`);
    console.log(`ok   commands: ${await commanding(page, { until, looks })}`);
    console.log(`ok   time: ${await timeControl(page, { until })}`);
    console.log(`ok   explore: ${await explore(page, { until, looks, device: DEVICE })}`);
    console.log(`ok   map: ${await mapping(page, { until, looks, device: DEVICE })}`);
    console.log(`ok   boards: ${await boards(page, { until, looks, looksBySystem, watch, violations, shot, complaints, device: DEVICE })}`);
    console.log(`ok   operate: ${await operating(page, { until, looks, complaints, device: DEVICE })}`);
    console.log(`ok   frame: ${await frame(browser, URL_, { user: USER, password: PASSWORD }, { until, looks, device: DEVICE })}`);
    console.log('ok   fits 360 px');
  } finally {
    await browser.close();
  }
  if (complaints.length > 0) throw new Error('the browser complained');
  console.log('ok   no console error, no failed request, nothing against WCAG 2.2 AA');
}

run('smoke', main, complaints);
