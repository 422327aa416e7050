// Drives what a page does when something is not there: the hub for a while, a part of the app, a device; and when it is left with
// something unsaved. What the browser complains of meanwhile is what was asked for, so nobody watches.
import { signIn } from './drive.mjs';
import { WIDE } from './looks.mjs';

/** The hub is away from this page until what is returned is called. */
async function away(page, what) {
  const cut = (route) => route.abort('connectionrefused');
  await page.route(what, cut);
  return () => page.unroute(what, cut);
}

const goTo = (page, hash) => page.evaluate((to) => { location.hash = to; }, hash);

async function noDevice(page, { until, looks }) {
  await goTo(page, '#/device/nothing');
  await page.getByTestId('no-device').waitFor();
  if (await page.getByTestId('command-send').count() > 0) throw new Error('a device that does not exist is offered commands');
  if ((await page.locator('main').innerText()).includes('no readings yet')) throw new Error('a device that does not exist is said to have no readings');
  await until('no live badge', async () => await page.getByTestId('live-state').getAttribute('data-live') === 'idle');
  await looks(page, 'no-device');
}

/** The page of the hub and the list of events say that the hub is away, and go on when it is back. */
async function hubAway(page, { until, looks }) {
  await goTo(page, '#/operate/hub');
  await page.getByTestId('hub-checks').locator('tbody tr').first().waitFor();
  const says = () => page.getByTestId('hub-ready').count();
  const asOf = () => page.getByTestId('as-of').innerText();
  const first = await asOf();
  await until('figures of later', async () => await asOf() !== first);
  let back = await away(page, '**/api/v1/health');
  await page.getByTestId('operate-error').waitFor();
  if (await says() > 0) throw new Error('a hub that is away is said to do its work');
  await looks(page, 'operate-hub-away');
  await back();
  await until('a hub that works again', async () => await says() > 0);
  await page.getByTestId('operate-error').waitFor({ state: 'detached' });
  back = await away(page, '**/api/v1/events*');
  await page.getByTestId('operate-events').click();
  await page.getByTestId('operate-error').waitFor();
  await back();
  await page.getByTestId('events').locator('tbody tr').first().waitFor();
  await page.getByTestId('operate-error').waitFor({ state: 'detached' });
  await looks(page, 'operate-events-back');
}

/** The line of one device is not shown below what was said of another. */
async function enrolment(page, { device }) {
  await goTo(page, '#/operate/enrol');
  const refuse = (route) => (route.request().method() === 'POST' ? route.fulfill({ status: 400, contentType: 'application/problem+json', body: '{"code":"bad-name","detail":"no"}' }) : route.fallback());
  await page.getByTestId('enrol-device').fill(`${device}-frame`);
  await page.getByTestId('enrol-make').click();
  await page.getByTestId('enrol-made').waitFor();
  await page.route('**/api/v1/enroll-tokens', refuse);
  await page.getByTestId('enrol-device').fill('x'.repeat(65));
  await page.getByTestId('enrol-make').click();
  await page.getByTestId('operate-error').waitFor();
  if (await page.getByTestId('enrol-made').count() > 0) throw new Error('the line of another device is still shown');
  await page.unroute('**/api/v1/enroll-tokens', refuse);
  const row = page.getByTestId('enrol-tokens').locator('tr', { hasText: `${device}-frame` });
  await row.getByRole('button').click();
  await row.waitFor({ state: 'detached' });
}

async function noPlace(page, { looks }) {
  await goTo(page, '#/map?site=Apia');
  await page.getByText('No device of Apia has a position yet.').waitFor();
  await looks(page, 'map-no-place');
}

/** A part of the app that does not come while the hub is away comes when it is back. */
async function lostPart(page, { looks }) {
  await page.reload();
  await page.getByTestId('nav-boards').waitFor();
  const back = [await away(page, '**/api/**'), await away(page, '**/assets/**')];
  await page.getByTestId('nav-boards').click();
  await page.getByTestId('not-loaded').getByText('cannot be reached').waitFor();
  await looks(page, 'not-loaded');
  for (const end of back) await end();
  await page.getByTestId('board-new').waitFor();
}

/** A board with changes that are not saved asks before it is left: by a link, by the way back, and by signing out. */
async function unsaved(page, { until }) {
  await page.getByTestId('board-new').click();
  await page.getByTestId('add').selectOption('text');
  await until('something to save', () => page.getByTestId('save').isEnabled());
  const id = await page.evaluate(() => location.hash.slice('#/boards/'.length).split('?')[0]);
  const panels = () => page.getByTestId('panel').count();
  const before = await panels();
  let asked = 0;
  let stays = true;
  const answer = (dialog) => {
    asked += 1;
    void (stays ? dialog.dismiss() : dialog.accept());
  };
  page.on('dialog', answer);
  await page.getByTestId('nav-map').click();
  await until('a question before a link', () => asked === 1);
  await page.evaluate(() => history.back());
  await until('a question before the way back', () => asked === 2);
  await page.getByTestId('sign-out').click();
  await until('a question before signing out', () => asked === 3);
  await until('the same board', async () => (await page.evaluate(() => location.hash)).startsWith(`#/boards/${id}`));
  if (await panels() !== before || before === 0) throw new Error('the change is lost');
  stays = false;
  await page.getByTestId('nav-boards').click();
  const row = page.locator(`[data-testid="board-row"][data-board="${id}"]`);
  await row.getByTestId('board-delete').click();
  await row.waitFor({ state: 'detached' });
  if (asked !== 5) throw new Error(`${asked} questions were asked; 5 were expected`);
  page.off('dialog', answer);
}

export async function frame(browser, url, who, tools) {
  const page = await browser.newPage({ viewport: WIDE, ignoreHTTPSErrors: true });
  await signIn(page, url, who);
  await noDevice(page, tools);
  await hubAway(page, tools);
  await enrolment(page, tools);
  await noPlace(page, tools);
  await lostPart(page, tools);
  await unsaved(page, tools);
  await page.context().close();
  return 'no such device, a hub and a part of the app that are away and back, one line at a time, no place, a question before a change is lost';
}
