/**
 * What the browser tests share: a headless Chromium that notes every fault of a page, and named checks.
 * A console error, or a request to another host than the page's, is a fault.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

/** In milliseconds, for a machine that is busy or guests without acceleration. */
const PATIENCE = 120_000;
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export async function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    timeout: PATIENCE,
    args: [
      ...(process.getuid() === 0 ? ['--no-sandbox'] : []),
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}

/** Opens a page; what goes wrong in it is collected in `faults`. */
export async function open(browser, url) {
  const page = await browser.newPage({
    locale: 'en-US',
    viewport: { width: 1200, height: 900 },
  });
  page.setDefaultTimeout(PATIENCE);
  const faults = [];
  page.on('console', (message) => {
    if (message.type() === 'error') faults.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => faults.push(`error: ${error.message}`));
  page.on('request', (request) => {
    const asked = new URL(request.url());
    if (asked.host !== new URL(url).host) faults.push(`request: ${asked}`);
  });
  await page.goto(url);
  return { page, faults };
}

/** Goes to a page by the navigation, as a person would. */
export function visit(page, name) {
  const pages = page.getByRole('navigation', { name: /^(Pages|Páginas)$/ });
  return pages.getByRole('link', { name, exact: true }).click();
}

/** Fails where axe finds a serious or critical fault. */
export async function accessible(page, where) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const serious = violations
    .filter(({ impact }) => ['serious', 'critical'].includes(impact))
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
  assert.deepEqual(serious, [], where);
}

/** Fails where the page is wider than the window. */
export async function fits(page, where) {
  const [content, window] = await page.evaluate(() => [
    document.documentElement.scrollWidth,
    globalThis.innerWidth,
  ]);
  assert.ok(content <= window, `${where} is ${content} wide in a window of ${window}`);
}

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Asks the test that started this script to do something, such as `kill database-server`, and waits until it has. */
export async function request(what) {
  console.log(`> ${what}`);
  const { done } = await answers.next();
  assert.ok(!done, 'the test that started this script is gone');
}

/** Runs checks in order, each on what the one before left; each is a line. The first that fails ends the run. */
export async function run(checks) {
  for (const [name, check] of Object.entries(checks)) {
    const began = performance.now();
    try {
      await check();
    } catch (error) {
      console.log(`FAILED  ${name}\n${error.stack}`);
      process.exit(1);
    }
    console.log(`ok      ${name} (${((performance.now() - began) / 1000).toFixed(1)} s)`);
  }
}
