// Drives the explore page: finds two series of the device, compares them with earlier, gets files, and asks in SQL.

const lines = (page) => page.getByTestId('line').evaluateAll((all) => all.map((el) => ({ series: el.dataset.series, points: Number(el.dataset.points) })));

async function download(page, name) {
  const [file] = await Promise.all([page.waitForEvent('download'), page.getByTestId(name).click()]);
  const failed = await file.failure();
  if (failed) throw new Error(`${name}: ${failed}`);
  return file.suggestedFilename();
}

export async function explore(page, { until, looks, device }) {
  await page.getByTestId('nav-explore').click();
  await page.getByTestId('pick-text').fill(device);
  for (let n = 1; n <= 2; n += 1) {
    await page.locator('[data-testid="pick"]:enabled').first().click();
    await until(`${n} lines with points`, async () => (await lines(page)).filter((line) => line.points > 0).length === n);
  }
  const chosen = (await lines(page)).map((line) => line.series);
  await page.getByTestId('compare').selectOption('range');
  await page.getByText('Earlier mean').waitFor();
  await page.getByTestId('chart-table').locator('summary').click();
  await page.getByTestId('chart-table').locator('tbody tr').first().waitFor();
  await looks(page, 'explore');
  const files = [];
  for (const name of ['png', 'export-csv', 'export-parquet']) files.push(await download(page, name));
  const hash = await page.evaluate(() => decodeURIComponent(location.hash));
  for (const id of chosen) if (!hash.includes(id)) throw new Error(`the address ${hash} lacks ${id}`);
  await page.reload();
  await until('the same lines after loading it again', async () => (await lines(page)).map((line) => line.series).join() === chosen.join());

  await page.getByTestId('tab-sql').click();
  await page.getByTestId('sql-run').click();
  await page.getByTestId('sql-answer').locator('tbody tr').first().waitFor();
  await page.getByTestId('overlay').waitFor();
  // A statement names its own times, which are UTC, and so are those of its answer.
  if (await page.getByTestId('time-control').count() > 0) throw new Error('a range of time stands above SQL, where it means nothing');
  const times = (await page.getByTestId('sql-answer').innerText()).match(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S*/g) ?? [];
  if (times.length === 0 || !times.every((text) => text.endsWith('Z'))) throw new Error(`times of the answer are ${times[0]}`);
  await looks(page, 'explore-sql');
  for (const name of ['sql-csv', 'sql-parquet']) files.push(await download(page, name));
  return `${chosen.join(', ')}; files ${files.join(', ')}; SQL with its chart`;
}
