// What an operator does by hand at a hub with agents: tags of many devices, versions of a board, a board on a wall, a link, and a new agent.
import { WIDE } from './looks.mjs';

/** A tag for all devices that are shown, and taken away from them again. */
export async function bulk(page, { until, looks }, devices) {
  const tagsOf = (id) => page.evaluate(async (name) => (await (await fetch(`/api/v1/devices/${name}`)).json()).tags, id);
  const all = async (fits) => (await Promise.all(devices.map(tagsOf))).every(fits);
  await page.getByTestId('nav-fleet').click();
  await page.getByTestId('bulk').click();
  const form = page.getByTestId('bulk-tags');
  await form.getByTestId('bulk-key').fill('crew');
  await form.getByTestId('bulk-value').fill('night');
  await form.getByTestId('bulk-set').click();
  await form.getByTestId('bulk-set-yes').waitFor();
  await looks(page, 'bulk-tags');
  await form.getByTestId('bulk-set-yes').click();
  await until('the tag of all', () => all((tags) => tags.crew === 'night'));
  await page.getByTestId('filter-tag').locator('option[value="crew=night"]').waitFor({ state: 'attached' });
  await form.getByTestId('bulk-remove').click();
  await form.getByTestId('bulk-remove-yes').click();
  await until('the tag of none', () => all((tags) => !('crew' in tags)));
  const told = await form.getByTestId('bulk-told').innerText();
  await page.getByTestId('bulk').click();
  return `${devices.length} devices, ${told}`;
}

const titles = (page) => page.getByTestId('panel').locator('h2').allInnerTexts();

/** The board on the page is changed and kept; an earlier version of it comes back, is a version itself, and is there when it is opened anew. */
export async function versions(page, { until, looksBySystem }) {
  await page.getByTestId('edit').click();
  const before = await until('panels with titles', async () => { const all = await titles(page); return all.length > 0 && all; });
  await page.locator('[data-panel="stat"]').getByTestId('alter').click();
  await page.getByTestId('panel-title').fill('Another title');
  await page.getByTestId('panel-title').blur();
  await page.getByTestId('save').click();
  await until('a saved board', () => page.getByTestId('save').isDisabled());
  if ((await titles(page)).join() === before.join()) throw new Error('the title is as before');
  await page.getByTestId('show-versions').click();
  await page.getByTestId('version-row').nth(1).waitFor();
  const kept = await page.getByTestId('version-row').count();
  await looksBySystem(page, 'board-versions');
  await page.getByTestId('restore').first().click();
  await until('the version that came back', async () => await page.getByTestId('version-row').count() > kept);
  await until('the titles of before', async () => (await titles(page)).join() === before.join());
  await page.getByTestId('versions-close').click();
  await page.getByTestId('edit-leave').click();
  await page.reload();
  await until('the titles of before at the hub', async () => (await titles(page)).join() === before.join());
  return `${kept} kept, the one before is the newest again`;
}

/** A board on a wall: nothing but the board, live, until Escape. */
export async function kiosk(page, { until, looksBySystem, everyPanel }) {
  const points = async () => Number(await page.locator('[data-panel="line"] [data-testid="board-line"]').getAttribute('data-points'));
  await page.getByTestId('kiosk').click();
  await page.getByTestId('kiosk-leave').waitFor();
  for (const other of ['nav-fleet', 'theme', 'time-control', 'edit', 'show-share']) if (await page.getByTestId(other).count() > 0) throw new Error(`the wall shows ${other}`);
  await page.reload();
  await everyPanel(page);
  const [then, shown] = [await points(), await page.getByTestId('as-of').innerText()];
  await until('a wall that goes on', async () => await points() > then || await page.getByTestId('as-of').innerText() !== shown);
  await looksBySystem(page, 'kiosk');
  await page.keyboard.press('Escape');
  await page.getByTestId('nav-fleet').waitFor();
  return 'alone on the page, also when it is opened as such, live, left by a key';
}

/** A link shows all panels to somebody without a login, and nothing once it has ended, also where it is open. */
export async function link(page, { looksBySystem, watch, everyPanel, LONG_MS }) {
  await page.getByTestId('show-share').click();
  await page.getByTestId('share-note').fill('visitors');
  await page.getByTestId('share-make').click();
  const address = await page.getByTestId('share-link').inputValue();
  await looksBySystem(page, 'share-dialog');
  await page.getByTestId('share-close').click();
  const other = await page.context().browser().newContext({ viewport: WIDE });
  const guest = await other.newPage();
  const wanted = { refused: false };
  watch(guest, (answer) => wanted.refused && [401, 403, 404, 410].includes(answer.status()));
  await guest.goto(address);
  await everyPanel(guest);
  await guest.locator('[data-testid="shared"] [data-live="live"]').waitFor();
  if ((await other.cookies()).length > 0) throw new Error('the link made a session');
  await looksBySystem(guest, 'shared-kinds');
  const panels = await guest.getByTestId('panel').count();
  // What it is told from here on is no fault of the page.
  wanted.refused = true;
  await page.getByTestId('show-share').click();
  await page.getByTestId('share-row').getByTestId('share-end').click();
  await page.getByTestId('share-row').waitFor({ state: 'detached' });
  await page.getByTestId('share-close').click();
  await guest.getByTestId('shared-error').waitFor({ timeout: LONG_MS });
  if (await guest.getByTestId('panel').count() > 0) throw new Error('what a link showed stays when it has ended');
  await guest.reload();
  await guest.getByTestId('shared-error').waitFor();
  await looksBySystem(guest, 'share-ended');
  await other.close();
  return `${panels} panels without a login, none when it was ended, where it was open too`;
}

/** The line that the page shows is pasted as it is into a shell: its device is in the fleet, and sends readings. */
export async function enrol(page, { until, looks, site, LONG_MS }) {
  const device = 'pasted-1';
  await page.getByTestId('nav-operate').click();
  await page.getByTestId('enrol-device').fill(device);
  await page.getByTestId('enrol-make').click();
  const line = await page.getByTestId('enrol-made').getByTestId('once').inputValue();
  const then = await page.getByTestId('enrol-made').locator('code').innerText();
  const told = await site.pasted(device, line, then);
  await page.getByTestId('nav-fleet').click();
  const row = page.locator(`[data-testid="device-row"][data-device="${device}"]`);
  await row.waitFor({ timeout: LONG_MS });
  await until('an agent that is online', async () => (await row.getByTestId('device-state').innerText()).trim() === 'online', LONG_MS);
  await row.getByRole('link').click();
  await page.locator('[data-testid="chart"]:not([data-points="0"])').first().waitFor({ timeout: LONG_MS });
  await looks(page, 'enrolled');
  return `${told.split('\n').at(-1)}; then ${then}`;
}
