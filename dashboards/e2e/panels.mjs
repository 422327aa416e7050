// What boards cost a browser: 20 live panels, and 8 lines of 100,000 readings that are zoomed.
const POINTS = Number(process.env.TIDELINE_POINTS ?? 100_000);
const SECONDS = Number(process.env.TIDELINE_SECONDS ?? 10);
const RUNS = 5;
const LINES = 8;
const CHUNK = 10_000;
const SLOW_MS = 50;

async function open(page, ask, url, board, hash = '') {
  const { info } = await ask('POST', '/boards', { version: 1, title: 'Measured', range: '5m', ...board });
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

export async function livePanels(browser, page, ask, { url, device }) {
  const { series } = await ask('GET', `/series?device=${encodeURIComponent(device)}`);
  const ids = series.filter(({ type }) => type === 'float' || type === 'int').map(({ id }) => id);
  const panels = Array.from({ length: 20 }, (_, n) => ({ id: `p${n}`, x: (n % 4) * 3, y: Math.floor(n / 4) * 5, w: 3, h: 5, show: { kind: 'line', series: [ids[n % ids.length]] } }));
  await page.setViewportSize({ width: 1600, height: 1600 });
  const id = await open(page, ask, url, { panels });
  const shares = [];
  for (let run = 0; run < RUNS; run += 1) {
    const [before, began] = [await processorSeconds(browser), performance.now()];
    await page.waitForTimeout(SECONDS * 1000);
    shares.push(100 * 1000 * (await processorSeconds(browser) - before) / (performance.now() - began));
  }
  await ask('DELETE', `/boards/${id}`);
  shares.sort((a, b) => a - b);
  return `20 live panels: ${shares[RUNS >> 1].toFixed(1)} % of a core in the page's process (${RUNS} times ${SECONDS} s: ${shares.map((share) => share.toFixed(1)).join(', ')})`;
}

async function write(ask, url) {
  const { id, token } = await ask('POST', '/tokens', { name: `measure-${Date.now()}`, role: 'writer', devices: ['measured'] });
  const first = Date.now() - POINTS * 1000;
  for (let from = 0; from < POINTS; from += CHUNK) {
    const lines = Array.from({ length: Math.min(CHUNK, POINTS - from) }, (_, i) => {
      const fields = Array.from({ length: LINES }, (__, line) => `l${line}=${(50 + 40 * Math.sin((from + i) / (300 * (line + 1)))).toFixed(2)}`);
      return `m,host=measured ${fields.join(',')} ${first + (from + i) * 1000}`;
    });
    const answer = await fetch(`${url}/api/v2/write?precision=ms&bucket=b`, { method: 'POST', headers: { authorization: `Bearer ${token}` }, body: lines.join('\n') });
    if (!answer.ok) throw new Error(`write: ${answer.status} ${await answer.text()}`);
  }
  await ask('DELETE', `/tokens/${id}`);
}

/** Processor time that the longest task of the page took, ms: what else the machine does is not in it. */
function longestTask(trace) {
  const { traceEvents: all } = JSON.parse(trace.toString('utf8'));
  const main = new Set(all.filter(({ name, args }) => name === 'thread_name' && args.name === 'CrRendererMain').map(({ pid, tid }) => `${pid} ${tid}`));
  const tasks = all.filter(({ ph, name, pid, tid }) => ph === 'X' && name.endsWith('RunTask') && main.has(`${pid} ${tid}`));
  return Math.max(0, ...tasks.map(({ tdur }) => tdur ?? 0)) / 1000;
}

function watchFrames() {
  window.frames50 = [];
  let last = performance.now();
  const next = (now) => { window.frames50.push(now - last); last = now; requestAnimationFrame(next); };
  requestAnimationFrame(next);
}

export async function longLines(browser, page, ask, { url }) {
  await write(ask, url);
  await page.setViewportSize({ width: 1280, height: 800 });
  const id = await open(page, ask, url, { panels: [{ id: 'p', x: 0, y: 0, w: 12, h: 14, show: { kind: 'line', series: ['measured/m/*'] } }] }, '?range=all');
  await page.evaluate(watchFrames);
  await browser.startTracing(page, { categories: ['toplevel'] });
  const box = await page.locator('.u-over').boundingBox();
  for (let run = 0; run < RUNS; run += 1) {
    for (const [from, to] of [[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]]) {
      await page.mouse.move(box.x + box.width * from, box.y + 50);
      await page.mouse.down();
      await page.mouse.move(box.x + box.width * to, box.y + 60, { steps: 20 });
      await page.mouse.up();
      await page.waitForTimeout(1000);
    }
    await page.getByTestId('range-all').click();
    await page.waitForTimeout(1000);
  }
  const longest = longestTask(await browser.stopTracing());
  const frames = await page.evaluate(() => window.frames50);
  await ask('DELETE', `/boards/${id}`);
  const slow = frames.filter((ms) => ms > SLOW_MS);
  return `${LINES} series of ${POINTS} readings, ${RUNS} times all of it and three zooms: ${slow.length} of ${frames.length} frames over ${SLOW_MS} ms, the longest ${Math.max(...frames).toFixed(0)} ms; `
    + `the longest task of the page took ${longest.toFixed(0)} ms of a processor`;
}
