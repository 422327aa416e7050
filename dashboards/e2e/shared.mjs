// What a device shares with others is shown when it is opened, and what is written to it is at the hub.

/** Writes a leaf of the first document that the device on the page shares. */
export async function sharing(page, { looks }) {
  const one = page.getByTestId('shared').first();
  await one.locator('summary').first().click();
  const key = `smoke/lamp-${Date.now() % 1000}`;
  await one.getByTestId('shared-key').fill(key);
  await one.getByTestId('shared-value').fill('on');
  await one.getByTestId('shared-set').click();
  const row = one.getByTestId('shared-twin').locator('tr', { hasText: key });
  await row.waitFor();
  await looks(page, 'shared');
  const told = `${await one.getAttribute('data-name')}: ${(await row.innerText()).replaceAll(/\s+/g, ' ').trim()}`;
  await one.locator('summary').first().click();
  return told;
}
