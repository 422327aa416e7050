// Reads charts by keys: their cursor goes from reading to reading, and what is there is told in words.

async function told(one, until, what, was) {
  return until(what, async () => {
    const text = await one.getAttribute('aria-valuetext');
    return text !== was && text;
  });
}

/** Where the cross hair of a chart is; null where it has none. */
const hair = (one) => one.locator('.u-cursor-x').evaluate((el) => { const x = new DOMMatrix(getComputedStyle(el).transform).e; return x < 0 ? null : x; });

/** A line, whose cursor the others of the page share, and a map of colours on a board. */
export async function keys(page, { until }) {
  const line = page.locator('[data-testid="board-line"] .plot').first();
  await line.focus();
  const none = await line.getAttribute('aria-valuetext');
  await page.keyboard.press('ArrowLeft');
  const newest = await told(line, until, 'the newest reading in words', none);
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('ArrowLeft');
  const earlier = await told(line, until, 'an earlier reading in words', newest);
  if (!/\d\d:\d\d:\d\d: .*\d/.test(earlier)) throw new Error(`the chart tells ${earlier}`);
  const other = page.locator('[data-testid="board-line"]').nth(1);
  if (await other.count() > 0) {
    await until('the cursor of another chart', async () => await hair(other) !== null);
    if (!/\d/.test(await other.locator('.plot').getAttribute('aria-valuetext'))) throw new Error('another chart does not tell what it has at that time');
  }
  await page.keyboard.press('Escape');
  await told(line, until, 'no reading again', earlier);
  const heat = page.getByTestId('heat-keys').first();
  await heat.focus();
  const before = await heat.getAttribute('aria-valuetext');
  await page.keyboard.press('ArrowUp');
  const cell = await told(heat, until, 'a cell in words', before);
  await page.keyboard.press('Home');
  await told(heat, until, 'another cell in words', cell);
  return `by keys ${earlier.slice(0, 60)}`;
}
