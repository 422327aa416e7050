// Drives the map: a device is placed by a click and by hand, the map is moved by keys and mouse, and a site gets a plan with
// the device on it.
import { rooms } from './png.mjs';

const zoomOf = async (page) => Number(await page.getByTestId('map').getAttribute('data-zoom'));

/** The device's form, from the list of those that have no position, or from that of those in view. */
async function form(page, device, until) {
  const own = page.locator(`[data-device="${device}"]`).getByTestId('place');
  await until('the device in one of the lists', async () => {
    if (await own.count() > 0) return true;
    const unplaced = page.getByTestId('unplaced');
    if (await unplaced.count() > 0 && await unplaced.getAttribute('open') === null) await unplaced.locator('summary').click();
    if (await unplaced.count() > 0) await page.getByTestId('unplaced-find').fill(device);
    return false;
  });
  await own.first().click();
  await page.getByTestId('place-form').waitFor();
}

async function middle(locator) {
  const box = await locator.boundingBox();
  return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
}

async function world(page, { until, looks, device }) {
  await page.getByTestId('nav-map').click();
  await page.getByTestId('map-placed').waitFor();
  await form(page, device, until);
  const at = await middle(page.getByTestId('map-area'));
  await page.mouse.click(at.x + 60, at.y - 40);
  await page.getByTestId('pin').waitFor();
  const clicked = Number(await page.getByTestId('place-lat').inputValue());
  if (!Number.isFinite(clicked) || clicked === 0) throw new Error(`the click wrote ${clicked}`);
  await page.getByTestId('place-lat').fill('95');
  await page.getByTestId('place-save').click();
  await page.getByTestId('place-error').waitFor();
  await page.getByTestId('place-lat').fill('48.1374');
  await page.getByTestId('place-lon').fill('11.5755');
  await page.getByTestId('place-save').click();
  await page.getByTestId('place-form').waitFor({ state: 'detached' });
  await until('the focus beside the map', () => page.evaluate(() => document.activeElement?.closest('.map-side') !== null));
  await page.getByTestId('map-fit').click();
  await page.locator(`[data-testid="map-device"][data-device="${device}"]`).waitFor();
  await page.getByTestId('cluster').first().waitFor();
  await looks(page, 'map');

  // Moved by keys, by the wheel and by the mouse; the address has it.
  await page.getByTestId('map-area').focus();
  const before = await zoomOf(page);
  await page.keyboard.press('+');
  await until('a nearer map by a key', async () => await zoomOf(page) > before);
  const hash = await page.evaluate(() => location.hash);
  await page.keyboard.press('ArrowRight');
  await until('another address after a key', async () => await page.evaluate(() => location.hash) !== hash);
  await page.mouse.move(at.x, at.y);
  await page.mouse.wheel(0, 200);
  await until('a farther map by the wheel', async () => await zoomOf(page) < before + 1);
  const left = await page.evaluate(() => location.hash);
  await page.mouse.down();
  await page.mouse.move(at.x + 90, at.y + 30, { steps: 4 });
  await page.mouse.up();
  await until('another address after a drag', async () => await page.evaluate(() => location.hash) !== left);
  // What the address names is shown.
  await page.evaluate(() => { location.hash = '#/map?at=48.1374,11.5755&z=9'; });
  await page.reload();
  await until('the zoom of the address', async () => await zoomOf(page) === 9);
  await page.locator(`[data-testid="map-device"][data-device="${device}"]`).waitFor();
  await looks(page, 'map-near');
  // A site that is chosen is shown, wherever the map was; back is where it was.
  const options = page.getByTestId('map-site').locator('option');
  if (await options.count() > 1) {
    const site = await options.nth(1).getAttribute('value');
    await page.getByTestId('map-site').selectOption(site);
    await until('the site in the address, and no view of before', () => page.evaluate((name) => new URLSearchParams(location.hash.split('?')[1]).get('site') === name, site));
    await page.goBack();
    await until('the zoom of before', async () => await zoomOf(page) === 9);
  }
  return `${before.toFixed(1)} and back`;
}

/** The site of a device gets a plan, and the device a place on it. */
export async function plan(page, { until, looks, device }) {
  const site = await page.evaluate(async (id) => {
    const address = `/api/v1/devices/${encodeURIComponent(id)}`;
    const found = await (await fetch(address)).json();
    if (found.site) return found.site;
    await fetch(address, { method: 'PATCH', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ site: 'smoke' }) });
    return 'smoke';
  }, device);
  await page.evaluate((name) => { location.hash = `#/map?plan=${encodeURIComponent(name)}`; }, site);
  await page.getByTestId('plan-file').waitFor();
  await page.getByTestId('plan-file').setInputFiles({ name: 'plan.png', mimeType: 'image/png', buffer: rooms() });
  await until('a plan that is drawn', () => page.getByTestId('plan').locator('img').evaluate((image) => image.complete && image.naturalWidth === 640).catch(() => false));
  await page.locator(`[data-testid="map-device"][data-device="${device}"]`).getByTestId('place').click();
  const box = await page.getByTestId('plan').boundingBox();
  await page.mouse.click(box.x + box.width * 0.4, box.y + box.height * 0.3);
  await until('a click in the form', async () => Math.abs(Number(await page.getByTestId('place-x').inputValue()) - 40) < 1);
  await page.getByTestId('place-save').click();
  await page.locator(`[data-testid="plan-mark"][data-device="${device}"]`).waitFor();
  await looks(page, 'plan');
  return `${device} at 40 % of ${site}`;
}

export async function mapping(page, tools) {
  return `zoom ${await world(page, tools)}; plan: ${await plan(page, tools)}`;
}
