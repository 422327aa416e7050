// What a person sees while things break: an agent that is cut off and comes back, a hub that is killed, a twin that was
// written at both ends meanwhile, and a command on its way. All of it on one page that is never loaded again.
// Environment: TIDELINE_BIN (a folder with cloud-hub and edge-agent); TIDELINE_SHOTS and CHROMIUM are optional.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { violations } from './access.mjs';
import { run, signIn, until } from './drive.mjs';
import { Site } from './real.mjs';

const { TIDELINE_BIN: BIN = '', TIDELINE_SHOTS: SHOTS = '' } = process.env;
const DEVICE = 'outage-1';
/** An agent is taken for offline 15 s after it was due, and dials again within some more. */
const LONG_MS = 120_000;
/** How long the line is cut at least by the readings that the page lacks. */
const HOLE_MS = 10_000;
const complaints = [];

async function shot(page, name) {
  if (!SHOTS) return;
  await mkdir(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `outage-${name}.png`), fullPage: true });
}

async function look(page, name) {
  await shot(page, name);
  complaints.push(...(await violations(page)).map((line) => `${name}: ${line}`));
}

/** The chart with the most points: one of a reading a second. */
async function chart(page) {
  const all = await page.getByTestId('chart').evaluateAll((found) => found.map(({ dataset: d }) => ({
    series: d.series, points: Number(d.points), newest: Number(d.newest), hole: Number(d.hole),
  })));
  return all.sort((a, b) => b.points - a.points)[0];
}

const named = async (page, series) => page.locator(`[data-testid="chart"][data-series="${series}"]`).evaluate(({ dataset: d }) => ({ newest: Number(d.newest), hole: Number(d.hole), points: Number(d.points) }));
const badge = (page) => page.getByTestId('live-state').getAttribute('data-live');
const state = async (page) => (await page.getByTestId('device-state').innerText()).trim();

/** Marks the document: another one, or one that was loaded again, has no mark. */
const mark = (page) => page.evaluate(() => { document.documentElement.dataset.kept = 'yes'; });
async function isSame(page) {
  if (await page.evaluate(() => document.documentElement.dataset.kept) !== 'yes') throw new Error('the page was loaded again');
}

async function twinSet(page, key, value) {
  await page.getByTestId('twin-key').fill(key);
  await page.getByTestId('twin-value').fill(value);
  await page.getByTestId('twin-set').click();
  await page.getByTestId('twin').locator('tr', { hasText: key }).filter({ hasText: value }).waitFor();
}

/** The line is cut until the page says so, both ends write to the twin, and the gap fills when it is whole again. */
async function cutOff(page, { agent, line }) {
  const before = await until('a chart of a reading a second', async () => {
    const found = await chart(page);
    return found?.points > 10 && found;
  });
  await twinSet(page, 'valve/open', '40');
  await until('the edit at the agent', async () => JSON.parse(await agent.say(['twin', 'get', '--json'])).desired?.valve?.open === 40, LONG_MS);
  line.cut = true;
  await agent.say(['twin', 'set', 'valve/open', '70', '--author', 'ben']);
  await twinSet(page, 'valve/open', '55');
  await until('a device that is offline', async () => await state(page) === 'offline', LONG_MS);
  await page.getByTestId('incomplete').waitFor();
  const reason = await page.getByTestId('incomplete').getAttribute('title');
  if (!reason.includes('not connected')) throw new Error(`the badge says ${reason}`);
  const away = await named(page, before.series);
  await look(page, 'offline');
  line.cut = false;
  await until('a device that is back', async () => await state(page) === 'online', LONG_MS);
  // Fresh readings are there at once, and what lay in the spool goes where it belongs.
  await until('a line that goes on', async () => (await named(page, before.series)).newest > away.newest + HOLE_MS, LONG_MS);
  await until('a gap that is filled', async () => (await named(page, before.series)).hole < HOLE_MS / 2, LONG_MS);
  await page.getByTestId('incomplete').waitFor({ state: 'detached', timeout: LONG_MS });
  const after = await named(page, before.series);
  await isSame(page);
  await until('a ledger that balances', async () => await page.getByTestId('balanced').first().getAttribute('data-ok') === 'true', LONG_MS);
  await shot(page, 'refilled');
  return `${before.series} without its hole again, ${after.points} points, and the ledger balances`;
}

/** Both values with who wrote them; one click keeps one of them at both ends. */
async function conflict(page, { hub, agent }) {
  const list = page.getByTestId('twin-conflicts');
  await list.waitFor({ timeout: LONG_MS });
  const text = await until('both values', async () => {
    const said = (await list.innerText()).replaceAll(/\s+/g, ' ');
    return said.includes('55') && said.includes('70') && said;
  });
  for (const part of ['operator at the hub', 'ben at the agent']) if (!text.includes(part)) throw new Error(`${part} is not in: ${text}`);
  await look(page, 'conflict');
  await list.getByRole('button', { name: 'Keep 70' }).click();
  await list.waitFor({ state: 'detached' });
  const none = async (end, more = []) => JSON.parse(await end.say(['twin', 'conflicts', ...more, '--json'])).conflicts.length === 0;
  await until('no conflict at the hub', () => none(hub, [DEVICE]));
  await until('no conflict at the agent', () => none(agent), LONG_MS);
  await until('the value at the agent', async () => JSON.parse(await agent.say(['twin', 'get', '--json'])).desired.valve.open === 70, LONG_MS);
  await isSame(page);
  return text;
}

/** The hub is killed and comes back; the page says so and goes on by itself. */
async function hubRestart(page, { hub }) {
  const { series, newest } = await chart(page);
  // A page without an event stream says so too, and looks again.
  const health = await page.context().newPage();
  await health.goto(`${hub.url}/#/operate/hub`);
  await health.getByTestId('hub-ready').waitFor();
  const asOf = await health.getByTestId('as-of').innerText();
  await hub.end('SIGKILL');
  await until('a badge that says so', async () => await badge(page) === 'reconnecting');
  await page.getByTestId('chart').first().waitFor();
  await shot(page, 'no-hub');
  await health.bringToFront();
  await health.getByTestId('operate-error').waitFor({ timeout: LONG_MS });
  if (await health.getByTestId('hub-ready').count() > 0) throw new Error('a hub that is dead is said to do its work');
  await look(health, 'no-hub-health');
  await hub.start();
  await health.getByTestId('operate-error').waitFor({ state: 'detached', timeout: LONG_MS });
  await until('a later look', async () => await health.getByTestId('as-of').innerText() !== asOf);
  await health.close();
  await page.bringToFront();
  await until('a live feed', async () => await badge(page) === 'live', LONG_MS);
  await until('a chart that grows again', async () => (await named(page, series)).newest > newest + 2000, LONG_MS);
  await page.locator('[role="alert"]').waitFor({ state: 'detached', timeout: LONG_MS });
  await isSame(page);
  return 'reconnecting, then live again, the chart too';
}

/** A program goes on when the test lets it: its percentage and output are there while it runs. */
async function command(page, { folder }) {
  const go = (step) => writeFile(join(folder, `go-${step}`), '');
  await page.getByTestId('command-kind').selectOption('other');
  await page.getByTestId('command-other').fill('run');
  await page.getByTestId('command-input').fill('{"program":"walk"}');
  await page.getByTestId('command-send').click();
  const row = page.getByTestId('command').first();
  for (const [step, percent] of [[1, '40 %'], [2, '80 %']]) {
    await until(`${percent} of a command that runs`, async () => (await row.getAttribute('data-state')) === 'running' && (await row.innerText()).includes(percent), LONG_MS);
    await page.getByTestId('command-output').filter({ hasText: `step ${step}` }).waitFor();
    if (step === 1) await look(page, 'command');
    await go(step);
  }
  await until('a command that is done', async () => (await row.getAttribute('data-state')) === 'succeeded', LONG_MS);
  await isSame(page);
  return '40 %, 80 %, done, each with its output';
}

/** A program that says how far it is, and waits for a file before it goes on. */
function config(line, folder) {
  const step = (n, percent) => `echo step ${n}; echo '${percent} %'; while [ ! -e ${folder}/go-${n} ]; do sleep 0.1; done; `;
  return `[http]\nlisten = ""\n[uplink]\nhub = "127.0.0.1:${line.port}"\nmqtt = "off"\n`
    + `[[program]]\nname = "walk"\npath = "/bin/sh"\nargs = ["-c", """${step(1, 40)}${step(2, 80)}"""]\n`;
}

async function all(site, browser) {
  const hub = await site.hub();
  const who = await site.user(hub, 'operator');
  const line = await site.line(hub);
  const agent = await site.agent(hub, DEVICE, config(line, site.folder));
  const things = { hub, agent, line, folder: site.folder };
  const page = await (await browser.newContext({ viewport: { width: 1280, height: 800 } })).newPage();
  page.on('pageerror', (error) => complaints.push(`exception: ${error.message}`));
  await signIn(page, hub.url, who);
  await page.locator(`[data-testid="device-row"][data-device="${DEVICE}"]`).getByRole('link').click({ timeout: LONG_MS });
  await mark(page);
  console.log(`ok   cut off: ${await cutOff(page, things)}`);
  console.log(`ok   conflict: ${await conflict(page, things)}`);
  console.log(`ok   hub restart: ${await hubRestart(page, things)}`);
  console.log(`ok   command: ${await command(page, things)}`);
  if (complaints.length > 0) throw new Error('the browser complained');
}

run('outage', () => Site.use(BIN, all), complaints);
