// Drives the time of a page with charts: ranges, steps, zoom by dragging, the zone, the pause, and the address.

const hash = (page) => page.evaluate(() => location.hash);
const params = async (page) => new URLSearchParams((await hash(page)).split('?')[1] ?? '');

async function expectParams(page, until, what, check) {
  await until(`${what} in the address`, async () => check(await params(page)));
}

/** Drags over the first chart that can be seen. */
async function brush(page) {
  const over = page.locator('.u-over').first();
  await over.scrollIntoViewIfNeeded();
  const box = await over.boundingBox();
  if (!box) throw new Error('no chart to drag over');
  await page.mouse.move(box.x + box.width * 0.5, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.9, box.y + box.height / 2, { steps: 5 });
  await page.mouse.up();
}

export async function timeControl(page, { until }) {
  await page.getByTestId('range-1h').click();
  await expectParams(page, until, 'the range', (now) => now.get('range') === '1h');

  await brush(page);
  await expectParams(page, until, 'what was dragged over', (now) => now.has('from') && now.has('to') && !now.has('range'));
  const zoomed = await params(page);
  const length = (some) => Date.parse(some.get('to')) - Date.parse(some.get('from'));

  await page.getByTestId('time-earlier').click();
  await expectParams(page, until, 'an earlier range', (now) => Date.parse(now.get('from')) < Date.parse(zoomed.get('from')) && Math.abs(length(now) - length(zoomed)) < 2);
  await page.getByTestId('zoom-out').click();
  await expectParams(page, until, 'a longer range', (now) => length(now) > length(zoomed) * 1.9);

  await page.goBack();
  await page.goBack();
  await expectParams(page, until, 'the range before', (now) => now.get('from') === zoomed.get('from'));
  await page.reload();
  await page.getByTestId('reset-zoom').waitFor();
  await expectParams(page, until, 'the same after loading it again', (now) => now.get('from') === zoomed.get('from'));

  await page.getByTestId('zone').selectOption('utc');
  await expectParams(page, until, 'the zone', (now) => now.get('tz') === 'utc');
  await page.getByTestId('range-custom').click();
  const field = await page.getByTestId('time-from').inputValue();
  if (!zoomed.get('from').startsWith(field)) throw new Error(`the field says ${field}, the address ${zoomed.get('from')}`);
  await page.getByTestId('time-to').fill('');
  await page.getByTestId('time-show').click();
  await page.getByTestId('time-error').waitFor();
  await page.getByTestId('range-custom').click();

  await page.getByTestId('range-5m').click();
  await expectParams(page, until, 'the range that goes along', (now) => now.get('range') === '5m' && !now.has('from'));
  await page.getByTestId('pause').click();
  await until('a feed that is held', async () => (await page.getByTestId('live-state').getAttribute('data-live')) === 'paused');
  const still = await page.locator('.when').innerText();
  await page.getByTestId('pause').click();
  await until('a range that goes on', async () => (await page.locator('.when').innerText()) !== still);
  await page.getByTestId('zone').selectOption('browser');
  return 'ranges, steps, zoom, zone and pause, all in the address';
}
