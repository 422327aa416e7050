// Drives boards: one is made, changed, taken back and saved, an older version comes back, and a link shows it in
// another browser session without a login, until it is ended.

const places = (page) => page.getByTestId('panel').evaluateAll((all) => all.map((el) => `${el.dataset.panel} ${el.dataset.place}`).sort().join('; '));
const points = (page) => page.getByTestId('board-line').evaluateAll((all) => all.map((el) => Number(el.dataset.points)));

/** The mock's board has every kind of panel. */
async function everyKind(page, { until, looks }) {
  const row = page.locator('[data-testid="board-row"][data-board="plant"]');
  if (await row.count() === 0) return;
  await row.getByRole('link').click();
  await until('a line with points', async () => (await points(page)).some((n) => n > 0));
  await page.locator('[data-testid="heat"][data-cells="0"]').waitFor({ state: 'detached' });
  await page.getByTestId('tile').first().waitFor();
  await page.getByTestId('states').first().waitFor();
  await page.getByTestId('cluster').first().waitFor();
  await looks(page, 'board-kinds');
  if (await page.locator('.words b').count() > 0) throw new Error('the text of a panel became markup');
  await page.getByTestId('nav-boards').click();
}

async function change(page, { until, looks, device }) {
  await page.getByTestId('board-new').click();
  await page.getByTestId('add').selectOption('line');
  await page.getByTestId('panel-series').fill(`${device}/*`);
  await page.getByTestId('panel-title').fill('All of it');
  await page.getByTestId('panel-title').blur();
  await until('a line with points', async () => (await points(page)).some((n) => n > 0));
  await page.getByTestId('add').selectOption('stat');
  await page.getByTestId('panel-series').fill(`${device}/*`);
  await page.getByTestId('panel-title').fill('Now');
  await page.getByTestId('panel-title').blur();
  await page.getByTestId('tile').first().waitFor();
  await page.getByTestId('save').click();
  await until('a saved board', () => page.getByTestId('save').isDisabled());
  await looks(page, 'board-edit');

  // By keyboard, by mouse, back and forth.
  const before = await places(page);
  await page.locator('[data-panel="panel-2"]').getByTestId('move').focus();
  await page.keyboard.press('ArrowRight');
  const moved = await places(page);
  if (moved === before) throw new Error(`the arrow key moved nothing: ${before}`);
  await page.locator('[data-panel="panel-1"]').getByTestId('size').scrollIntoViewIfNeeded();
  const corner = await page.locator('[data-panel="panel-1"]').getByTestId('size').boundingBox();
  await page.mouse.move(corner.x + 8, corner.y + 8);
  await page.mouse.down();
  await page.mouse.move(corner.x - 190, corner.y - 40, { steps: 5 });
  await page.mouse.up();
  const sized = await places(page);
  if (sized === moved) throw new Error(`the drag resized nothing: ${moved}`);
  await page.getByTestId('undo').click();
  if (await places(page) !== moved) throw new Error('undo does not bring back what was before');
  await page.keyboard.press('Control+z');
  if (await places(page) !== before) throw new Error('Ctrl+Z does not bring back what was before');
  await page.getByTestId('redo').click();
  await page.getByTestId('redo').click();
  if (await places(page) !== sized) throw new Error('redo does not do it again');
  await page.getByTestId('save').click();
  await until('a saved board', () => page.getByTestId('save').isDisabled());
  await page.reload();
  await until('the same panels after loading it again', async () => await places(page) === sized);

  await page.getByTestId('show-versions').click();
  await page.getByTestId('version-row').nth(2).waitFor();
  await page.getByTestId('restore').first().click();
  await until('the panels of the version before', async () => await places(page) === before);
  await page.getByTestId('versions-close').click();
  await page.getByTestId('edit-leave').click();
  return `${before} → ${sized} and back`;
}

async function share(page, { until, watch, violations, looksBySystem, shot, complaints }) {
  await page.getByTestId('show-share').click();
  await page.getByTestId('share-note').fill('wall');
  await page.getByTestId('share-make').click();
  const link = await page.getByTestId('share-link').inputValue();
  complaints.push(...(await violations(page)).map((line) => `share: ${line}`));
  await shot(page, 'board-share');
  await page.getByTestId('share-close').click();
  const other = await page.context().browser().newContext({ viewport: { width: 1280, height: 800 }, ignoreHTTPSErrors: true });
  const guest = await other.newPage();
  watch(guest);
  await guest.goto(link);
  const first = await until('a line with points by the link', async () => (await points(guest)).find((n) => n > 0));
  await guest.locator('[data-testid="shared"] [data-live="live"]').waitFor();
  if ((await other.cookies()).length > 0) throw new Error('the link made a session');
  await guest.getByTestId('as-of').waitFor();
  await looksBySystem(guest, 'board-shared');
  await guest.close();
  await page.getByTestId('show-share').click();
  await page.getByTestId('share-row').getByTestId('share-end').click();
  await page.getByTestId('share-row').waitFor({ state: 'detached' });
  await page.getByTestId('share-close').click();
  // What it is told now is no fault of the page.
  const late = await other.newPage();
  await late.goto(link);
  await late.getByTestId('shared-error').waitFor();
  await other.close();
  return `${first} points without a login, none when it was ended`;
}

export async function boards(page, tools) {
  await page.getByTestId('nav-boards').click();
  await page.getByTestId('board-row').first().waitFor();
  await tools.looks(page, 'boards');
  await everyKind(page, tools);
  const changed = await change(page, tools);
  const id = await page.evaluate(() => location.hash.slice('#/boards/'.length).split('?')[0]);
  await page.getByTestId('kiosk').click();
  await page.getByTestId('kiosk-leave').waitFor();
  if (await page.getByTestId('nav-boards').count() > 0) throw new Error('the kiosk shows the navigation');
  await page.keyboard.press('Escape');
  await page.getByTestId('kiosk').waitFor();
  const shared = await share(page, tools);
  await page.getByTestId('nav-boards').click();
  page.once('dialog', (dialog) => void dialog.accept());
  const row = page.locator(`[data-testid="board-row"][data-board="${id}"]`);
  await row.getByTestId('board-delete').click();
  await row.waitFor({ state: 'detached' });
  return `${changed}; ${shared}`;
}
