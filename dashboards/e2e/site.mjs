// A site on real processes: two agents at a hub, one of them with values of every kind and a place. On its pages: a shipped board, the board of
// a device, a board with a panel of each kind that comes from a file and goes into one, its versions, its kiosk and its link, the fleet's
// filters and tags, an agent that enrols with the line of the page, and all of it for a viewer, who is offered nothing that the hub would
// refuse.
// Environment: TIDELINE_BIN (a folder with cloud-hub and edge-agent); TIDELINE_SHOTS, CHROMIUM and TIDELINE_DIST (the app's folder, in place of
// what is built into the hub) are optional.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run, signIn, until } from './drive.mjs';
import { keys } from './keys.mjs';
import { apart, looker, PHONE, WIDE } from './looks.mjs';
import { plan } from './mapping.mjs';
import { bulk, enrol, kiosk, link, versions } from './hands.mjs';
import { Site } from './real.mjs';

const { TIDELINE_BIN: BIN = '', TIDELINE_SHOTS: SHOTS = '' } = process.env;
const [DEVICE, OTHER] = ['site-1', 'site-2'];
const LONG_MS = 120_000;
const complaints = [];
const { looks, looksBySystem } = looker(SHOTS, complaints);

/** What the browser complains of; answers that are no success are told by their address. */
function watch(page, isKnown = () => false) {
  page.on('pageerror', (error) => complaints.push(`exception at ${page.url()}: ${error.message}`));
  page.on('response', (response) => {
    if (response.status() >= 400 && !isKnown(response)) complaints.push(`status ${response.status()}: ${response.request().method()} ${response.url()}`);
  });
}
/** Before a sign-in the page asks who is signed in. */
const isEarly = (response) => response.status() === 401 && /\/api\/v1\/(session|fleet)(\?|$)/.test(response.url());

/** A reading a second of a number, a truth value and a text, by the clock of now. */
async function recording(folder) {
  const rows = Array.from({ length: 3000 }, (_, s) => `${s},${(20 + 5 * Math.sin(s / 20)).toFixed(2)},${s % 12 < 7},${['idle', 'cooling', 'defrost'][Math.floor(s / 9) % 3]}`);
  const path = join(folder, 'recording.csv');
  await writeFile(path, ['timestamp,flow,running,state', ...rows].join('\n'));
  return path;
}
const config = (recorded) => '[http]\nlisten = ""\n[[source]]\nkind = "host"\n'
  + (recorded ? `[[source]]\nkind = "replay"\npath = "${recorded}"\ntimestamps = "now"\nrate = 1\ntypes = ["running=bool", "state=text"]\n` : '');

const panel = (id, title, [x, y, w, h], show) => ({ id, title, x, y, w, h, show });
/** A panel of each kind. */
const EVERY = {
  version: 1, title: 'Every kind', about: 'A panel of each kind.', variables: [{ name: 'device', kind: 'device', label: 'Device', default: DEVICE }], range: '5m',
  panels: [
    panel('line', 'Flow', [0, 0, 8, 8], { kind: 'line', series: ['$device/flow'], bands: [{ from: 22, to: 24, level: 'warn' }, { from: 24, level: 'bad' }], marks: ['restarts', 'configuration'] }),
    panel('stat', 'Now', [8, 0, 2, 4], { kind: 'stat', series: ['$device/flow'], spark: true }),
    panel('gauge', 'Gauge', [10, 0, 2, 5], { kind: 'gauge', series: ['$device/flow'], min: 0, max: 40, bands: [{ from: 22, level: 'warn' }, { to: 22, level: 'ok' }] }),
    panel('text', 'Words', [8, 5, 4, 3], { kind: 'text', text: 'Words.\n<b>Not markup.</b>' }),
    panel('bar', 'Bars', [0, 8, 4, 6], { kind: 'bar', series: ['$device/flow', '$device/running'] }),
    panel('states', 'States', [4, 8, 8, 7], { kind: 'states', series: ['$device/running', '$device/state'] }),
    panel('heat', 'By hour', [0, 15, 6, 5], { kind: 'heat', series: ['$device/flow'], by: 'hour_day', figure: 'mean' }),
    panel('along', 'Along time', [6, 15, 6, 5], { kind: 'heat', series: ['*/cpu/total'], by: 'series_time', figure: 'max' }),
    panel('table', 'Table', [0, 20, 6, 6], { kind: 'table', series: ['$device/flow', '$device/state'], figures: ['last', 'mean', 'count'] }),
    panel('map', 'Where', [6, 20, 6, 7], { kind: 'map', devices: ['*'] }),
    panel('narrow', 'Memory', [6, 27, 3, 8], { kind: 'line', series: ['$device/memory/*'] }),
    panel('plan', 'On the plan', [0, 27, 6, 8], { kind: 'map', devices: ['*'], plan: 'hall-2' }),
  ],
};

/** The hub is asked as the page would. */
async function patch(page, id, body) {
  const status = await page.evaluate(async ([path, text]) => (await fetch(path, { method: 'PATCH', headers: { 'content-type': 'application/json' }, body: text })).status, [`/api/v1/devices/${id}`, JSON.stringify(body)]);
  if (status !== 200) throw new Error(`what was said of ${id} was answered with ${status}`);
}

const shown = (page) => page.getByTestId('device-row').evaluateAll((all) => all.map((el) => el.dataset.device).sort().join());

/** Each of the filters leaves those that it says; together with a search as well. */
async function filters(page) {
  await page.reload();
  await until('both devices', async () => await shown(page) === `${DEVICE},${OTHER}`, LONG_MS);
  const told = [];
  for (const [name, wanted, left] of [['site', 'hall-2', DEVICE], ['group', 'pumps', DEVICE], ['tag', 'floor=2', DEVICE], ['firmware', null, `${DEVICE},${OTHER}`]]) {
    const select = page.getByTestId(`filter-${name}`);
    await select.waitFor();
    const values = await select.locator('option').evaluateAll((all) => all.map((one) => one.value).filter((value) => value !== ''));
    const value = wanted ?? values[0];
    if (!values.includes(value)) throw new Error(`the filter ${name} has ${values.join(', ')} and not ${value}`);
    await select.selectOption(value);
    await until(`those of ${name} ${value}`, async () => await shown(page) === left);
    if (!(await page.evaluate(() => decodeURIComponent(location.hash))).includes(`${name}=`)) throw new Error(`the address lacks ${name}`);
    if (name === 'tag') await looks(page, 'site-fleet-filtered');
    await page.getByTestId('filter-clear').click();
    told.push(`${name} ${value}`);
  }
  await page.getByTestId('filter-site').selectOption('hall-2');
  await page.getByTestId('fleet-search').fill(OTHER);
  await until('nothing that is both', async () => await shown(page) === '');
  await page.getByTestId('filter-clear').click();
  await until('both again', async () => await shown(page) === `${DEVICE},${OTHER}`);
  return told.join(', ');
}

const filled = {
  line: (one) => one.locator('[data-testid="board-line"]:not([data-points="0"])').waitFor(),
  stat: (one) => one.getByTestId('tile').first().waitFor(),
  gauge: (one) => one.locator('.gauge .part').first().waitFor(),
  text: (one) => one.locator('.words').waitFor(),
  bar: (one) => one.getByTestId('bars').locator('tbody tr').nth(1).waitFor(),
  states: (one) => one.getByTestId('state-band').first().waitFor(),
  heat: (one) => one.locator('[data-testid="heat"]:not([data-cells="0"])').waitFor(),
  along: (one) => one.locator('[data-testid="heat"]:not([data-cells="0"])').waitFor(),
  table: (one) => one.getByTestId('board-table').locator('tbody tr').nth(1).waitFor(),
  map: (one) => one.getByTestId('cluster').first().waitFor(),
  narrow: (one) => one.locator('[data-testid="board-line"]:not([data-points="0"])').waitFor(),
  plan: (one) => one.locator(`[data-testid="plan-mark"][data-device="${DEVICE}"]`).waitFor(),
};

async function everyPanel(page) {
  for (const [id, wait] of Object.entries(filled)) {
    await wait(page.locator(`[data-testid="panel"][data-panel="${id}"]`)).catch((error) => { throw new Error(`panel ${id}: ${error.message}`); });
  }
  if (await page.locator('.words b').count() > 0) throw new Error('the text of a panel became markup');
  await page.getByTestId('board-bands').getByText('22 to below 24').waitFor();
  // The last value of a text is no number, and that of a number no mean.
  const row = page.getByTestId('board-table').locator('tr', { hasText: `${DEVICE}/state` });
  await page.setViewportSize(PHONE);
  await apart(page);
  await page.setViewportSize(WIDE);
  await apart(page);
  await until('the last text', async () => /idle|cooling|defrost/.test(await row.innerText()));
}

async function give(page) {
  const [file] = await Promise.all([page.waitForEvent('download'), page.getByTestId('give').click()]);
  return JSON.parse(await readFile(await file.path(), 'utf8'));
}

/** A board comes from a file with a panel of each kind, shows all of them, goes into a file, and comes from that one too. */
async function everyKind(page) {
  const take = async (board) => {
    await page.getByTestId('nav-boards').click();
    await page.getByTestId('board-row').first().waitFor();
    await page.getByTestId('board-take').setInputFiles({ name: 'board.json', mimeType: 'application/json', buffer: Buffer.from(JSON.stringify(board)) });
    await page.getByTestId('edit-leave').click();
    await page.getByTestId('give').waitFor();
  };
  await take(EVERY);
  await everyPanel(page);
  await page.getByTestId('as-of').waitFor();
  await looks(page, 'site-board-kinds');
  const keyed = await keys(page, { until });
  const given = await give(page);
  const plain = (board) => JSON.stringify(board.panels.map(({ id, title, show }) => [id, title, show.kind, show.series ?? show.devices ?? show.text]));
  if (plain(given) !== plain(EVERY)) throw new Error(`the file has ${plain(given)}`);
  await take({ ...given, title: 'Come back' });
  await everyPanel(page);
  if (JSON.stringify((await give(page)).panels) !== JSON.stringify(given.panels)) throw new Error('a board is another one when it comes back from its file');
  return `${given.panels.length} panels out of a file and into one; ${keyed}`;
}

async function board(page, hash, name) {
  await page.goto(`${page.url().split('#')[0]}#/boards/${hash}`);
  await page.locator('[data-testid="board-line"]:not([data-points="0"])').first().waitFor({ timeout: LONG_MS });
  await page.getByTestId('as-of').waitFor();
  await looks(page, name);
  return `${await page.locator('h1').innerText()}: ${await page.getByTestId('panel').count()} panels`;
}

/** What would write, by page. */
const FORMS = {
  '#/': ['bulk'], [`#/device/${DEVICE}`]: ['marks-edit', 'command-send', 'command-kind', 'twin-set', 'shared-set', 'config-change', 'log-ask'], '#/map': ['place', 'unplaced'],
  '#/boards': ['board-new', 'board-copy', 'board-delete', 'board-take'], '#/boards/machine': ['edit', 'copy', 'show-share'], [`#/boards/device/${DEVICE}`]: ['edit', 'copy', 'show-share'],
  '#/explore': [], '#/operate': ['enrol-make', 'many', 'template-add', 'operate-enrol', 'operate-access', 'operate-devices'], '#/operate/commands': ['many'], '#/operate/templates': ['template-add'],
  '#/operate/hub': [], '#/operate/events': [],
};

/** Each page for who may only read: it shows what it has, without a form, and the hub refuses nothing. */
async function viewer(browser, hub, who) {
  const context = await browser.newContext({ viewport: WIDE });
  const page = await context.newPage();
  watch(page, isEarly);
  await signIn(page, hub.url, who);
  for (const [hash, forms] of Object.entries(FORMS)) {
    await page.goto(`${hub.url}/${hash}`);
    await page.locator('main').waitFor();
    await until(`${hash} with something in it`, async () => (await page.locator('main').innerText()).trim().length > 20);
    if (hash.includes('device/')) await page.locator('[data-testid="config"], [data-testid="board-line"]').first().waitFor();
    for (const form of forms) if (await page.getByTestId(form).count() > 0) throw new Error(`${hash} offers a viewer ${form}`);
    await looks(page, `viewer-${hash.replaceAll(/[^a-z]+/g, '-').replaceAll(/^-|-$/g, '') || 'fleet'}`);
  }
  await context.close();
  return `${Object.keys(FORMS).length} pages without a form, nothing refused`;
}

async function all(site, browser) {
  const hub = await site.hub();
  const [admin, reader] = [await site.user(hub, 'operator'), await site.user(hub, 'reader', 'viewer')];
  await site.agent(hub, DEVICE, config(await recording(site.folder)));
  await site.agent(hub, OTHER, config(null));
  const page = await browser.newPage({ viewport: WIDE });
  watch(page, isEarly);
  await signIn(page, hub.url, admin);
  await until('both agents', async () => await shown(page) === `${DEVICE},${OTHER}`, LONG_MS);
  await patch(page, DEVICE, { site: 'hall-2', groups: ['pumps'], tags: { floor: '2' }, position: { lat: 48.1374, lon: 11.5755 } });
  const tools = { until, looks: (of, name) => looks(of, `site-${name}`), looksBySystem: (of, name) => looksBySystem(of, `site-${name}`), watch, everyPanel, site, LONG_MS };
  console.log(`ok   filters: ${await filters(page)}`);
  console.log(`ok   tags of many: ${await bulk(page, tools, [DEVICE, OTHER])}`);
  console.log(`ok   plan: ${await plan(page, { ...tools, device: DEVICE })}`);
  console.log(`ok   shipped board: ${await board(page, `machine?v.machine=${DEVICE}`, 'site-board-machine')}`);
  console.log(`ok   board of a device: ${await board(page, `device/${DEVICE}`, 'site-board-device')}`);
  console.log(`ok   every kind: ${await everyKind(page)}`);
  console.log(`ok   versions: ${await versions(page, tools)}`);
  console.log(`ok   kiosk: ${await kiosk(page, tools)}`);
  console.log(`ok   link: ${await link(page, tools)}`);
  console.log(`ok   enrolment: ${await enrol(page, tools)}`);
  console.log(`ok   viewer: ${await viewer(browser, hub, reader)}`);
  if (complaints.length > 0) throw new Error('the browser complained');
}

run('site', () => Site.use(BIN, all), complaints);
