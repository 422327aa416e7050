// What all scripts that drive a browser share.
import { chromium } from 'playwright-core';

export const WAIT_MS = Number(process.env.TIDELINE_WAIT_MS ?? 30_000);
const LOOK_MS = 200;
const ARGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** Looks again and again until there is something; fails when it takes too long. */
export async function until(what, look, longest = WAIT_MS) {
  const end = Date.now() + longest;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited ${longest} ms for ${what}`);
    await new Promise((wake) => { setTimeout(wake, LOOK_MS); });
  }
}

export function launch(args = []) {
  return chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: [...ARGS, ...args] });
}

/** Signs in by the form, and waits for the fleet. */
export async function signIn(page, url, { user, password }) {
  await page.goto(url, { waitUntil: 'domcontentloaded' });
  await page.getByTestId('login-user').fill(user);
  await page.getByTestId('login-password').fill(password);
  await page.getByTestId('login-submit').click();
  await page.getByTestId('fleet-table').waitFor();
}

/** Runs a test to its end; the process says how that was, and all that the browser complained of. */
export function run(name, main, complaints) {
  main().then(() => {
    console.log(`${name} passed`);
  }, (error) => {
    console.error(`FAIL ${error.message}`);
    for (const said of complaints) console.error(`     ${said}`);
    process.exitCode = 1;
  });
}
