// Runs axe-core over a page: what breaks WCAG 2.2 A or AA is a fault of the page.
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';

const SOURCE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];

/** What is wrong with the page as it stands; one line for each place. */
export async function violations(page) {
  // Not as a script element: the page's policy allows its own origin only.
  await page.evaluate(SOURCE);
  const found = await page.evaluate(async (tags) => {
    const { violations: all } = await window.axe.run(document, { runOnly: { type: 'tag', values: tags } });
    return all.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id} at ${target.join(' ')}: ${failureSummary}`));
  }, TAGS);
  return found.map((line) => line.replaceAll('\n', ' '));
}
