// Measures boards in a real browser against a running hub, and prints figures; what they must be, it does not say.
// 20 live panels: processor time of the page's process. Eight lines: 100,000 readings each are written first, then the
// board is opened over all of them and zoomed, and frames that took longer than 50 ms are counted.
// Environment as for smoke.mjs; TIDELINE_SECONDS (30) and TIDELINE_POINTS (100000, 0 writes none) besides.
import { chromium } from 'playwright-core';

const { TIDELINE_URL: url = 'http://127.0.0.1:8080', TIDELINE_USER: user = 'admin', TIDELINE_PASSWORD: password = '', TIDELINE_DEVICE: device = '' } = process.env;
const SECONDS = Number(process.env.TIDELINE_SECONDS ?? 30);
const POINTS = Number(process.env.TIDELINE_POINTS ?? 100_000);
const LINES = 8;
const CHUNK = 10_000;
const SLOW_MS = 50;
const ARGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'];

/** Asks the hub as the page would. */
const ask = (page, method, path, body) => page.evaluate(async ([how, where, what]) => {
  const answer = await fetch(`/api/v1${where}`, { method: how, headers: { 'content-type': 'application/json', 'if-match': '*' }, ...(what ? { body: JSON.stringify(what) } : {}) });
  if (!answer.ok) throw new Error(`${how} ${where}: ${answer.status} ${await answer.text()}`);
  return answer.status === 204 ? null : answer.json();
}, [method, path, body]);

async function open(page, board, hash = '') {
  const { info } = await ask(page, 'POST', '/boards', { version: 1, title: 'Measured', range: '5m', ...board });
  await page.goto(`${url}/#/boards/${info.id}${hash}`);
  await page.waitForFunction(() => [...document.querySelectorAll('[data-testid="board-line"]')].some((el) => Number(el.dataset.points) > 1));
  return info.id;
}

async function processorSeconds(browser) {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send('SystemInfo.getProcessInfo');
  await session.detach();
  return processInfo.filter(({ type }) => type === 'renderer').reduce((sum, { cpuTime }) => sum + cpuTime, 0);
}

async function livePanels(browser, page) {
  const { series } = await ask(page, 'GET', `/series?device=${encodeURIComponent(device)}`);
  const ids = series.filter(({ type }) => type === 'float' || type === 'int').map(({ id }) => id);
  const panels = Array.from({ length: 20 }, (_, n) => ({ id: `p${n}`, x: (n % 4) * 3, y: Math.floor(n / 4) * 5, w: 3, h: 5, show: { kind: 'line', series: [ids[n % ids.length]] } }));
  await page.setViewportSize({ width: 1600, height: 1600 });
  const id = await open(page, { panels });
  const [before, began] = [await processorSeconds(browser), performance.now()];
  await page.waitForTimeout(SECONDS * 1000);
  const [spent, seconds] = [await processorSeconds(browser) - before, (performance.now() - began) / 1000];
  await ask(page, 'DELETE', `/boards/${id}`);
  return `20 live panels: ${spent.toFixed(2)} s of processor time in ${seconds.toFixed(1)} s, ${((spent / seconds) * 100).toFixed(1)} % of a core`;
}

async function write(page) {
  const { id, token } = await ask(page, 'POST', '/tokens', { name: `measure-${Date.now()}`, role: 'writer', devices: ['measured'] });
  const first = Date.now() - POINTS * 1000;
  for (let from = 0; from < POINTS; from += CHUNK) {
    const lines = Array.from({ length: Math.min(CHUNK, POINTS - from) }, (_, i) => {
      const fields = Array.from({ length: LINES }, (__, line) => `l${line}=${(50 + 40 * Math.sin((from + i) / (300 * (line + 1)))).toFixed(2)}`);
      return `m,host=measured ${fields.join(',')} ${first + (from + i) * 1000}`;
    });
    const answer = await fetch(`${url}/api/v2/write?precision=ms&bucket=b`, { method: 'POST', headers: { authorization: `Bearer ${token}` }, body: lines.join('\n') });
    if (!answer.ok) throw new Error(`write: ${answer.status} ${await answer.text()}`);
  }
  await ask(page, 'DELETE', `/tokens/${id}`);
}

async function longLines(page) {
  const id = await open(page, { panels: [{ id: 'p', x: 0, y: 0, w: 12, h: 14, show: { kind: 'line', series: ['measured/m/*'] } }] }, '?range=all');
  await page.evaluate(() => {
    window.frames50 = [];
    let last = performance.now();
    const next = (now) => { window.frames50.push(now - last); last = now; requestAnimationFrame(next); };
    requestAnimationFrame(next);
  });
  const box = await page.locator('.u-over').boundingBox();
  for (const [from, to] of [[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]]) {
    await page.mouse.move(box.x + box.width * from, box.y + 50);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * to, box.y + 60, { steps: 20 });
    await page.mouse.up();
    await page.waitForTimeout(2000);
  }
  const frames = await page.evaluate(() => window.frames50);
  await ask(page, 'DELETE', `/boards/${id}`);
  const slow = frames.filter((ms) => ms > SLOW_MS);
  return `${LINES} series of ${POINTS} readings, three zooms: ${slow.length} of ${frames.length} frames over ${SLOW_MS} ms, the longest ${Math.max(...frames).toFixed(0)} ms`;
}

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: ARGS });
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 }, ignoreHTTPSErrors: true });
  page.setDefaultTimeout(120_000);
  await page.goto(url);
  await page.getByTestId('login-user').fill(user);
  await page.getByTestId('login-password').fill(password);
  await page.getByTestId('login-submit').click();
  await page.getByTestId('fleet-table').waitFor();
  console.log(await livePanels(browser, page));
  if (POINTS > 0) {
    await write(page);
    console.log(await longLines(page));
  }
} finally {
  await browser.close();
}
