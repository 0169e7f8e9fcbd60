/**
 * The common part of the browser tests: a headless Chromium that records the faults of a page, and named checks.
 * A console error, or a request to another host than the page's, is a fault.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

/** In milliseconds; long enough for a busy machine, and for guests without acceleration. */
const TIMEOUT = 120_000;
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export async function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    timeout: TIMEOUT,
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

/** Opens a page, and collects its errors in `faults`. */
export async function open(browser, url) {
  const page = await browser.newPage({
    locale: 'en-US',
    viewport: { width: 1200, height: 900 },
  });
  page.setDefaultTimeout(TIMEOUT);
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

/** Opens a page by its link in the navigation. */
export function visit(page, name) {
  const pages = page.getByRole('navigation', { name: /^(Pages|Páginas)$/ });
  return pages.getByRole('link', { name, exact: true }).click();
}

/** Fails if axe finds a serious or critical violation. */
export async function accessible(page, where) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const serious = violations
    .filter(({ impact }) => ['serious', 'critical'].includes(impact))
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
  assert.deepEqual(serious, [], where);
}

/** Fails if the page is wider than the window. */
export async function fits(page, where) {
  const [content, window] = await page.evaluate(() => [
    document.documentElement.scrollWidth,
    globalThis.innerWidth,
  ]);
  assert.ok(content <= window, `${where} is ${content} wide in a window of ${window}`);
}

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Sends a request to the test that started this script, such as `kill database-server`, and waits until it is done. */
export async function request(what) {
  console.log(`> ${what}`);
  const { done } = await answers.next();
  assert.ok(!done, 'the test that started this script has ended');
}

/** Runs checks in order, each in the state that the previous one left, and prints a line for each. Stops at a failure. */
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
