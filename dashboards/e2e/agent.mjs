// Looks at the local page of a running agent in a real browser: live, in both themes, on a phone, and without scripts. And at the
// page of a twin, at an agent of its own: what somebody writes and decides there while there is no hub.
// Environment: TIDELINE_AGENT_URL; TIDELINE_BIN (a folder with cloud-hub and edge-agent); TIDELINE_SHOTS (a folder for
// screenshots) and CHROMIUM are optional.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { chromium } from 'playwright-core';
import { violations } from './access.mjs';
import { freePorts, Site } from './real.mjs';

const URL_ = process.env.TIDELINE_AGENT_URL ?? 'http://127.0.0.1:8090';
const BIN = process.env.TIDELINE_BIN ?? '';
const SHOTS = process.env.TIDELINE_SHOTS ?? '';
const WAIT_MS = Number(process.env.TIDELINE_WAIT_MS ?? 30_000);
/** All of the page as it is sent, compressed; what a phone loads on a bad line. */
const BYTES_MAX = 60_000;
const DEVICE = 'decided-1';
const complaints = [];

async function shot(page, name) {
  if (!SHOTS) return;
  await mkdir(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `agent-${name}.png`), fullPage: true });
}

async function until(what, look) {
  const end = Date.now() + WAIT_MS;
  while (!(await look())) {
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function looks(page, prefix = '') {
  for (const scheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: scheme });
    for (const width of [1280, 360]) {
      await page.setViewportSize({ width, height: 800 });
      await shot(page, `${prefix}${scheme}-${width}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      if (wide > width) complaints.push(`${prefix}${scheme}: the page is ${wide} px wide at ${width} px`);
      complaints.push(...(await violations(page)).map((line) => `${prefix}${scheme}, ${width} px: ${line}`));
    }
  }
}

async function live(page) {
  page.on('console', (message) => message.type() === 'error' && complaints.push(`console: ${message.text()}`));
  page.on('pageerror', (error) => complaints.push(`exception: ${error.message}`));
  const bodies = [];
  page.on('response', (answer) => {
    if (!answer.url().startsWith(URL_)) complaints.push(`from elsewhere: ${answer.url()}`);
    if (!new URL(answer.url()).pathname.startsWith('/view')) bodies.push(answer.body());
  });
  await page.goto(URL_, { waitUntil: 'load' });
  await until('a page that is live', async () => (await page.locator('#line').textContent()) === 'live');
  await until('readings with values', async () => (await page.locator('#readings td b').count()) > 0);
  const bytes = (await Promise.all(bodies)).reduce((sum, body) => sum + gzipSync(body).length, 0);
  if (bytes > BYTES_MAX) complaints.push(`the page has ${bytes} bytes; allowed are ${BYTES_MAX}`);
  const seen = await page.locator('#sources').innerHTML();
  await until('a part that changes by itself', async () => (await page.locator('#sources').innerHTML()) !== seen);
  await looks(page);
  await page.locator('#level').selectOption('error');
  await until('a log of errors alone', async () => new URL(page.url()).searchParams.get('level') === 'error');
  return bytes;
}

/** An agent whose hub is gone, with a leaf of its twin that was written at both ends at once. */
async function contested(site) {
  const hub = await site.hub();
  const [line, [port]] = await Promise.all([site.line(hub), freePorts(1)]);
  const agent = await site.agent(hub, DEVICE, `[http]\nlisten = "127.0.0.1:${port}"\n[uplink]\nhub = "127.0.0.1:${line.port}"\nmqtt = "off"\n`);
  const here = async () => JSON.parse(await agent.say(['twin', 'get', '--json']).catch(() => '{}'));
  await hub.say(['twin', 'set', DEVICE, 'valve/open', '40']);
  await until('the edit at the agent', async () => (await here()).desired?.valve?.open === 40);
  line.cut = true;
  await agent.say(['twin', 'set', 'valve/open', '70', '--author', 'ben']);
  await hub.say(['twin', 'set', DEVICE, 'valve/open', '55']);
  line.cut = false;
  await until('both values at the agent', async () => (await here()).conflicts === 1);
  await hub.end('SIGKILL');
  const [, token] = /token for writes (\S+)/.exec(await agent.say(['status']));
  return { agent, here, token, url: `http://127.0.0.1:${port}/twin/${DEVICE}/page` };
}

async function press(page, button) {
  await Promise.all([page.waitForResponse((answer) => answer.request().method() === 'POST'), button.click()]);
  await page.waitForLoadState('load');
}

/** What one types: a wrong token changes nothing, the right one and a name do, and one value of a conflict is kept. */
async function decide(page, { agent, here, token, url }) {
  await page.goto(url, { waitUntil: 'load' });
  await page.locator('#conflicts').waitFor();
  await looks(page, 'twin-');
  const type = async (secret) => {
    await page.getByLabel('Your name').fill('Ada');
    await page.getByLabel('Token').fill(secret);
  };
  const edit = async (secret) => {
    await type(secret);
    await page.getByLabel('Leaf').fill('motor/speed');
    await page.getByLabel('Value').fill('25');
    await press(page, page.getByRole('button', { name: 'Set' }));
  };
  await edit('wrong');
  await page.getByRole('alert').waitFor();
  if ((await here()).desired.motor !== undefined) complaints.push('a wrong token changed a twin');
  complaints.push(...(await violations(page)).map((line) => `twin, refused: ${line}`));
  await edit(token);
  await page.locator('#leaves tr', { hasText: 'motor/speed' }).filter({ hasText: '25' }).waitFor();
  await type(token);
  const kept = page.locator('#conflicts tr', { hasText: 'ben' });
  if (!(await kept.innerText()).includes('70')) complaints.push(`the value of ben is ${await kept.innerText()}`);
  await press(page, kept.getByRole('button', { name: 'Keep' }));
  await page.locator('#conflicts').waitFor({ state: 'detached' });
  const told = await page.locator('#history tbody').innerText();
  const line = (leaf, value) => told.split('\n').some((row) => [leaf, value, 'Ada'].every((part) => row.includes(part)));
  if (!line('motor/speed', '25') || !line('valve/open', '70')) complaints.push(`the history says ${told}`);
  const { desired, conflicts } = await here();
  if (desired.motor.speed !== 25 || desired.valve.open !== 70 || conflicts !== 0) complaints.push(`the twin says ${JSON.stringify(desired)}`);
  // As long as there is no hub, and whether or not the agent is killed.
  await agent.end('SIGKILL');
  agent.start();
  await until('the twin after a kill', async () => (await here()).desired?.valve?.open === 70);
  await looks(page, 'twin-decided-');
}

async function twin(browser) {
  const site = await Site.open(BIN);
  try {
    const there = await contested(site);
    await decide(await browser.newPage(), there);
  } catch (error) {
    console.error(await browser.contexts().at(-1)?.pages().at(-1)?.locator('body').innerText(), await site.tails());
    throw error;
  } finally {
    await site.close();
  }
}

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu'] });
try {
  const bytes = await live(await browser.newPage());
  const plain = await (await browser.newContext({ javaScriptEnabled: false })).newPage();
  await plain.goto(URL_, { waitUntil: 'load' });
  const text = await plain.content();
  for (const part of ['id="now"', 'id="sources"', 'id="readings"', 'id="log"']) {
    if (!text.includes(part)) complaints.push(`without scripts there is no ${part}`);
  }
  await shot(plain, 'plain');
  if (BIN) await twin(browser);
  complaints.forEach((line) => console.error(line));
  console.log(`agent's page: ${bytes} bytes compressed, ${complaints.length} complaints`);
} finally {
  await browser.close();
}
process.exit(complaints.length ? 1 : 0);
