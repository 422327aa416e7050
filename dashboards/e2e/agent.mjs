// Looks at the local page of a running agent in a real browser: live, in both themes, on a phone, and without scripts.
// Environment: TIDELINE_AGENT_URL; TIDELINE_SHOTS (a folder for screenshots) and CHROMIUM are optional.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { chromium } from 'playwright-core';
import { violations } from './access.mjs';

const URL_ = process.env.TIDELINE_AGENT_URL ?? 'http://127.0.0.1:8090';
const SHOTS = process.env.TIDELINE_SHOTS ?? '';
const WAIT_MS = Number(process.env.TIDELINE_WAIT_MS ?? 30_000);
/** All of the page as it is sent, compressed; what a phone loads on a bad line. */
const BYTES_MAX = 60_000;
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

async function looks(page) {
  for (const scheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: scheme });
    for (const width of [1280, 360]) {
      await page.setViewportSize({ width, height: 800 });
      await shot(page, `${scheme}-${width}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      if (wide > width) complaints.push(`${scheme}: the page is ${wide} px wide at ${width} px`);
      complaints.push(...(await violations(page)).map((line) => `${scheme}, ${width} px: ${line}`));
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
  complaints.forEach((line) => console.error(line));
  console.log(`agent's page: ${bytes} bytes compressed, ${complaints.length} complaints`);
} finally {
  await browser.close();
}
process.exit(complaints.length ? 1 : 0);
