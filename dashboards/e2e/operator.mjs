// Drives what is made for operators: the fleet's list with its search and keyboard, commands of a device, enrolment and the pages beside it.

const rows = (page) => page.getByTestId('device-row').evaluateAll((all) => all.map((el) => el.dataset.device));

/** Searches, sorts and goes by keyboard; the page is left on the fleet with nothing filtered. */
export async function fleetList(page, { until, device }) {
  await page.getByTestId('fleet-cards').waitFor();
  await page.getByTestId('fleet-search').fill(device);
  await until('only what was searched for', async () => (await rows(page)).every((id) => id.includes(device)) && (await rows(page)).includes(device));
  await page.getByTestId('fleet-search').fill('no-such-device-anywhere');
  await until('no row', async () => (await rows(page)).length === 0);
  await page.getByTestId('filter-clear').click();
  await page.getByTestId('filter-state').selectOption('online');
  await until('the filter in the address', async () => (await page.evaluate(() => location.hash)).includes('state=online'));
  await page.getByTestId('filter-clear').click();
  const before = await until('rows', async () => { const all = await rows(page); return all.length > 0 ? all : null; });
  await page.locator('th.c-id button').click();
  await until('the order turned round', async () => before.length === 1 || (await rows(page))[0] !== before[0] || before.length > 40);
  await page.locator('th.c-id button').click();
  await page.locator('[data-testid="device-row"] a').first().focus();
  await page.keyboard.press('End');
  const count = Number(await page.getByTestId('fleet-table').getAttribute('aria-rowcount'));
  await until('the last row by keyboard', () => page.evaluate((last) => document.activeElement?.closest('tr')?.getAttribute('aria-rowindex') === String(last), count));
  await page.keyboard.press('Home');
  await until('the first row by keyboard', () => page.evaluate(() => document.activeElement?.closest('tr')?.getAttribute('aria-rowindex') === '2'));
  await page.getByTestId('history-hours').click();
  await page.getByTestId('strip-minutes').click();
  await page.getByTestId('history-minutes').click();
  await page.getByTestId('strip-hours').click();
  return `${count - 1} devices, searched, filtered, sorted and by keyboard`;
}

/** On a device's page, by keyboard: what operators say of it, what the hub refuses of that, and as it was again. */
export async function marking(page, { until, looks, complaints }) {
  const known = complaints.length;
  const about = () => page.getByTestId('about').innerText();
  const enter = async () => { await page.getByTestId('marks-edit').focus(); await page.keyboard.press('Enter'); await page.getByTestId('marks').waitFor(); };
  const before = await about();
  await enter();
  const site = await page.getByTestId('marks-site').inputValue();
  await page.getByTestId('marks-site').fill('x'.repeat(70));
  await page.keyboard.press('Enter');
  const refused = await page.getByTestId('marks-error').innerText();
  // The browser tells of the refusal twice; it was asked for.
  await until('the refusal', () => complaints.length >= known + 2);
  complaints.splice(known);
  await page.getByTestId('marks-site').fill(site);
  await page.getByTestId('marks-add').click();
  await page.getByTestId('marks-key').last().fill('smoke');
  await page.getByTestId('marks-value').last().fill('yes');
  await looks(page, 'marks');
  await page.keyboard.press('Escape');
  await until('the focus where it was', () => page.evaluate(() => document.activeElement?.getAttribute('data-testid') === 'marks-edit'));
  await enter();
  await page.getByTestId('marks-add').click();
  await page.getByTestId('marks-key').last().fill('smoke');
  await page.keyboard.press('Enter');
  await until('the tag', async () => (await about()).includes('smoke'));
  await enter();
  await page.getByTestId('marks-remove').last().click();
  await page.getByTestId('marks-save').click();
  await until('all as it was', async () => (await about()) === before);
  return `a tag set and taken away, refused: ${refused.slice(0, 40)}…`;
}

/** While readings come, the configuration is not asked for with each of them. */
async function askedOnce(page, until) {
  const newest = () => page.getByTestId('chart').evaluateAll((all) => Math.max(...all.map((el) => Number(el.dataset.newest))));
  const asked = [];
  const note = (request) => { if (request.url().endsWith('/config')) asked.push(request.url()); };
  const before = await newest();
  page.on('request', note);
  await until('six seconds of readings', async () => await newest() > before + 6000);
  page.off('request', note);
  // Once it may be for a reason.
  if (asked.length > 1) throw new Error(`the configuration was asked for ${asked.length} times`);
}

/** On a device's page: where values come from, and one wanted from the hub and taken back. */
export async function configuring(page, { until, looks }) {
  await page.getByTestId('config').waitFor();
  await askedOnce(page, until);
  await page.getByTestId('config-choice').selectOption('all');
  const all = await page.getByTestId('config-row').count();
  await page.getByTestId('config-find').fill('batch.rows_max');
  const row = page.locator('[data-testid="config-row"][data-option="batch.rows_max"]');
  await row.waitFor();
  const before = await row.getAttribute('data-source');
  await row.getByTestId('config-change').click();
  await page.getByTestId('config-value').fill('900');
  await looks(page, 'config');
  await page.getByTestId('config-value').press('Enter');
  await until('the value in force', async () => (await row.getAttribute('data-source')) === 'hub' && (await row.innerText()).includes('900'));
  await row.getByTestId('config-change').click();
  await page.getByTestId('config-back').click();
  await until('what was before', async () => (await row.getAttribute('data-source')) === before);
  await page.getByTestId('config-find').fill('');
  return `${all} options, one wanted from the hub and taken back`;
}

/** A command of the device's profile that asks once more, by keyboard alone: Escape and Enter send nothing, and yes does. */
async function asking(page, { until, looks }) {
  const kind = page.getByTestId('command-kind');
  if ((await kind.locator('option[value="profile:stop"]').count()) === 0) return;
  const known = await page.getByTestId('command').count();
  await kind.selectOption('profile:stop');
  for (const key of ['Escape', 'Enter']) {
    await page.getByTestId('command-send').press('Enter');
    await page.getByTestId('confirm').waitFor();
    await looks(page, 'command-confirm');
    await page.keyboard.press(key);
    await page.getByTestId('confirm').waitFor({ state: 'detached' });
  }
  if ((await page.getByTestId('command').count()) !== known) throw new Error('what was not confirmed was sent');
  await page.getByTestId('command-send').press('Enter');
  await page.getByTestId('confirm').waitFor();
  await page.keyboard.press('Shift+Tab');
  await page.keyboard.press('Enter');
  await until('what was confirmed in the list', async () => (await page.getByTestId('command').count()) > known);
}

/** On a device's page: a command that ends well, with its output. */
export async function commanding(page, { until, looks }) {
  await asking(page, { until, looks });
  for (const kind of ['sync', 'logs']) {
    const known = await page.getByTestId('command').count();
    await page.getByTestId('command-kind').selectOption(kind);
    await page.getByTestId('command-send').click();
    await until(`${kind} in the list`, async () => (await page.getByTestId('command').count()) > known);
    await until(`${kind} done`, async () => (await page.getByTestId('command').first().getAttribute('data-state')) === 'succeeded');
  }
  await page.getByTestId('command-output').waitFor();
  await looks(page, 'commands');
  const lines = (await page.getByTestId('command-output').innerText()).trim().split('\n');
  await page.getByTestId('log-ask').click();
  await page.getByTestId('log').waitFor();
  await page.getByTestId('log-ask').and(page.locator(':enabled')).waitFor();
  await page.getByTestId('log-follow').click();
  await until('a log that is followed', async () => (await page.getByTestId('log-age').innerText()).startsWith('Asked for each 5 s'));
  await page.getByTestId('log-level').selectOption('error');
  const [shown, all] = (await page.getByTestId('log-shown').innerText()).match(/\d+/g).map(Number);
  if (shown > all) throw new Error(`${shown} of ${all} lines are errors`);
  await looks(page, 'log');
  await page.getByTestId('log-level').selectOption('trace');
  await page.getByTestId('log-follow').click();
  await page.getByTestId('log-ask').and(page.locator(':enabled')).waitFor();
  return `sync and logs done, ${lines.length} lines of log`;
}

/** A command for devices that are searched for: how many, a question first, what became of each, and followed to its end. */
async function fleetCommands(page, { until, looks, device }) {
  await page.getByTestId('operate-commands').click();
  await page.getByTestId('all-commands').waitFor();
  await page.getByTestId('many').click();
  await page.getByTestId('many-fits').waitFor();
  await page.getByTestId('many-search').fill(device);
  await page.getByTestId('many-send').click();
  await page.getByTestId('many-send-yes').click();
  await page.getByTestId('many-taken').waitFor();
  await looks(page, 'operate-commands-many');
  await page.getByTestId('many-follow').click();
  const states = () => page.getByTestId('one-command').evaluateAll((all) => all.map((el) => el.dataset.state));
  await until('all of the order done', async () => (await states()).length > 0 && (await states()).every((state) => state === 'succeeded'));
  await page.getByTestId('many').click();
  await page.getByTestId('one-open').first().focus();
  await page.keyboard.press('End');
  await page.keyboard.press('Enter');
  await page.getByTestId('command-shown').waitFor();
  await page.getByTestId('commands-clear').click();
  await page.getByTestId('commands-state').selectOption('failed');
  await until('only failed ones', async () => (await states()).every((state) => state === 'failed'));
  await page.getByTestId('commands-clear').click();
  await page.getByTestId('all-commands').waitFor();
  await looks(page, 'operate-commands');
}

/** Makes a template that no agent has, changes it and removes it. */
async function template(page, { until, looks, complaints }) {
  await page.getByTestId('template-add').click();
  await page.getByTestId('template-name').fill('nobody-in-it');
  await page.getByTestId('template-layer').fill('{"batch": ');
  if (await page.getByTestId('template-save').isEnabled()) throw new Error('what is no JSON may be sent');
  const known = complaints.length;
  await page.getByTestId('template-layer').fill('{"batch": {"rows_max": null}}');
  await page.getByTestId('template-save').click();
  await page.getByTestId('template-error').getByText('null is no value').waitFor();
  // The browser tells of the refusal, which was wanted.
  await until('the refusal', () => complaints.length >= known + 2);
  complaints.splice(known);
  await page.getByTestId('template-layer').fill('{"batch": {"rows_max": 1000}}');
  await page.getByTestId('template-save').click();
  await page.getByTestId('template-done').waitFor();
  await looks(page, 'operate-template-form');
  await page.getByTestId('template-close').click();
  const open = page.getByTestId('template-open').and(page.getByText('group/nobody-in-it', { exact: true }));
  await open.click();
  await page.getByTestId('template-edit').click();
  await page.getByTestId('template-remove').click();
  await page.getByTestId('template-remove-yes').click();
  await until('the template gone', async () => (await open.count()) === 0);
  await page.getByTestId('template-close').click();
}

/** Each of the operator's pages, and a token made and taken back. */
export async function operating(page, { until, looks, complaints, device: own }) {
  const device = `smoke-${Date.now() % 100_000}`;
  await page.getByTestId('nav-operate').click();
  await page.getByTestId('enrol-device').fill(device);
  await page.getByTestId('enrol-make').click();
  await page.getByTestId('enrol-made').waitFor();
  const line = await page.getByTestId('once').inputValue();
  if (!/^edge-agent enroll \S{100,}$/.test(line)) throw new Error(`no line to paste: ${line}`);
  await page.getByTestId('enrol-made').locator('summary').click();
  await page.getByTestId('qr').waitFor();
  await looks(page, 'operate-enrol');
  const row = page.getByTestId('enrol-tokens').locator('tr', { hasText: device });
  await row.getByRole('button').click();
  await until('the token taken back', async () => (await row.count()) === 0);

  await page.getByTestId('operate-devices').click();
  await page.getByTestId('register-device').waitFor();
  if (await page.getByTestId('revoke').isEnabled()) throw new Error('a device may be shut out without its name');
  await looks(page, 'operate-devices');
  await page.getByTestId('operate-templates').click();
  await page.getByTestId('operate-templates').and(page.locator('[aria-current="page"]')).waitFor();
  const templates = page.getByTestId('template-open');
  if (await templates.count() > 0) {
    await templates.first().click();
    await page.getByTestId('template').waitFor();
  }
  await looks(page, 'operate-templates');
  await template(page, { until, looks, complaints });
  await fleetCommands(page, { until, looks, device: own });
  await page.getByTestId('operate-hub').click();
  await page.getByTestId('hub-checks').locator('tbody tr').first().waitFor();
  await page.getByTestId('hub-tiers').locator('tbody tr').first().waitFor();
  await looks(page, 'operate-hub');
  await page.getByTestId('operate-access').click();
  await page.getByTestId('users').locator('tbody tr').first().waitFor();
  await page.getByTestId('token-name').fill(device);
  await page.getByTestId('token-make').click();
  await page.getByTestId('once').waitFor();
  await looks(page, 'operate-access');
  const token = page.getByTestId('tokens').locator('tr', { hasText: device });
  await token.getByRole('button', { name: 'Remove' }).click();
  await token.getByRole('button', { name: 'Yes, remove' }).click();
  await until('the token removed', async () => (await token.count()) === 0);
  await page.getByTestId('operate-events').click();
  await page.getByTestId('events').locator('tbody tr').first().waitFor();
  await looks(page, 'operate-events');
  return `${line.length} characters to paste with a QR code, tokens taken back, health, access and events`;
}
