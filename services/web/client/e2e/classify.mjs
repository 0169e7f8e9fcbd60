/**
 * Uses the client as a person would, in headless Chromium, against a running deployment.
 *
 * Usage: node classify.mjs URL TRAIN_CSV [SCREENSHOT]
 * Each check is a line; the last line counts them. A console error, or a request to another host, fails the run.
 */
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const [url, examples, screenshot] = process.argv.slice(2);
const patience = 60_000;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
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
const page = await browser.newPage({ locale: 'en-US', viewport: { width: 1200, height: 900 } });
page.setDefaultTimeout(patience);

const faults = [];
page.on('console', (message) => {
  if (message.type() === 'error') faults.push(`console: ${message.text()}`);
});
page.on('pageerror', (error) => faults.push(`error: ${error.message}`));
page.on('request', (request) => {
  if (new URL(request.url()).host !== new URL(url).host) faults.push(`request: ${request.url()}`);
});

const visit = (name) =>
  page.getByRole('navigation', { name: 'Pages', exact: true }).getByRole('link', { name }).click();
/** A text that no earlier run can have stored. */
const text = `secure shell client and network tunnel daemon ${Date.now()}`;

const checks = {
  'the overview shows three services that serve': async () => {
    await page.goto(url);
    await page.locator('.services li').nth(2).waitFor();
    await page.getByText('Serving', { exact: true }).nth(2).waitFor();
    assert.equal(await page.locator('.services li').count(), 3);
  },
  'the model learns from a CSV file': async () => {
    await visit('Learn');
    await page.locator('input[name=file]').setInputFiles(examples);
    await page.locator('button[name=train]').click();
    await page.locator('[data-accuracy]').waitFor();
  },
  'a text is classified and stored': async () => {
    await visit('Documents');
    await page.locator('textarea[name=text]').fill(text);
    await page.locator('button[name=classify]').click();
    await page.locator('[data-label]').waitFor();
    assert.notEqual(await page.locator('[data-label]').innerText(), '');
  },
  'the stored document is found by its text, and deleted': async () => {
    await page.locator('input[name=filter]').fill(JSON.stringify({ text }));
    await page.locator('button[name=apply]').click();
    const row = page.locator('ul.documents li').filter({ hasText: text });
    await row.waitFor();
    await row.locator('button.icon').click();
    await page.locator('button[name=confirm-delete]').click();
    await page.getByText('Document deleted.').waitFor();
    await row.waitFor({ state: 'detached' });
  },
  'the page speaks Portuguese': async () => {
    await page.locator('.languages button[lang^=pt]').click();
    await page.getByRole('link', { name: 'Documentos' }).waitFor();
    await page.locator('.languages button[lang=en]').click();
  },
  'no error, and no request to another host': async () => {
    assert.deepEqual(faults, []);
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}\n${error.stack}`);
  }
}
if (screenshot) {
  await visit('Overview');
  // The figures that came after the checks above, and no half-drawn transition.
  await page.locator('.figures dd').nth(3).filter({ hasText: '%' }).waitFor();
  await page.locator('.services li').nth(2).hover();
  await page.screenshot({ path: screenshot, animations: 'disabled' });
}
await browser.close();
console.log(`${Object.keys(checks).length - failed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
