// What a page looks like and whether anybody is shut out: screenshots and axe-core, in both themes, wide and on a phone.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { violations } from './access.mjs';
import { until } from './drive.mjs';

export const WIDE = { width: 1280, height: 800 };
export const PHONE = { width: 360, height: 740 };

/** What tells names apart that stand beside each other is nowhere cut off. */
export async function apart(page) {
  const cut = await page.locator('.lines .parted .own, .bars .parted .own, .tiles .parted .own').evaluateAll((all) => all
    .filter((el) => el.scrollWidth > el.clientWidth + 1 || el.getBoundingClientRect().width < 8).map((el) => el.textContent));
  if (cut.length > 0) throw new Error(`names are cut where they differ: ${cut.join(', ')}`);
}

/** Looks at pages: screenshots go to a folder, if there is one, and what is wrong to `complaints`. */
export function looker(shots, complaints) {
  async function shot(page, name) {
    if (!shots) return;
    await mkdir(shots, { recursive: true });
    await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
  }

  /** A page in one theme, wide and on a phone, where nothing may be wider than it. */
  async function sized(page, name) {
    await shot(page, name);
    complaints.push(...(await violations(page)).map((line) => `${name}: ${line}`));
    await page.setViewportSize(PHONE);
    await until(`${name}: a page no wider than ${PHONE.width} px`, () => page.evaluate((most) => document.documentElement.scrollWidth <= most, PHONE.width));
    await shot(page, `${name}-360`);
    complaints.push(...(await violations(page)).map((line) => `${name}, 360 px: ${line}`));
    await page.setViewportSize(WIDE);
  }

  /** In both themes, as the page's own control chooses them. */
  async function looks(page, name) {
    for (const theme of ['dark', 'light']) {
      await page.getByTestId('theme').selectOption(theme);
      await sized(page, `${name}-${theme}`);
    }
    await page.getByTestId('theme').selectOption('system');
  }

  /** In both themes, as the system has them: of pages without the control. */
  async function looksBySystem(page, name) {
    for (const scheme of ['dark', 'light']) {
      await page.emulateMedia({ colorScheme: scheme });
      await sized(page, `${name}-${scheme}`);
    }
  }

  return { shot, looks, looksBySystem };
}
