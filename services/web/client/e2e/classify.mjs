/**
 * Uses a running deployment as a person would, in a headless Chromium.
 *
 *   node e2e/classify.mjs URL TRAIN_CSV [--screenshot FILE]
 *
 * Trains with the CSV, classifies a text of it, finds it in the list, deletes it and switches the
 * language. Any error on the console and any request to another host is a failure.
 * CHROMIUM names the browser (/usr/bin/chromium otherwise). Leaves no document behind, but the
 * model stays trained.
 */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { screenshot: { type: 'string' } },
});
const [url, csv] = positionals;
if (!url || !csv) {
  console.error('usage: classify.mjs URL TRAIN_CSV [--screenshot FILE]');
  process.exit(2);
}

const marker = `e2e ${crypto.randomUUID()}`;
const text = `${firstText(readFileSync(csv, 'utf8'))} (${marker})`;
const origin = new URL(url).origin;
const complaints = [];
const results = { passed: 0, failed: 0 };

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
  ],
});
const context = await browser.newContext({ locale: 'en-US', ignoreHTTPSErrors: true });
const page = await context.newPage();
page.setDefaultTimeout(30_000);
page.on('console', (message) => {
  if (message.type() === 'error') complaints.push(`console: ${message.text()}`);
});
page.on('pageerror', (error) => complaints.push(`page: ${error.message}`));
context.on('request', (request) => {
  const { protocol, origin: asked } = new URL(request.url());
  const local = protocol === 'data:' || protocol === 'blob:';
  if (!local && asked !== origin) complaints.push(`request to another host: ${request.url()}`);
});

const row = page.locator('.documents li').filter({ hasText: marker });

try {
  await step('overview shows the services and goes live', async () => {
    await page.goto(url);
    await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor();
    await page.getByText('Live', { exact: true }).waitFor();
    const serving = page.getByText('Serving', { exact: true });
    await until(async () => (await serving.count()) >= 3, 'three services serve');
  });

  await step('learning from a CSV shows the accuracy', async () => {
    await page.getByRole('link', { name: 'Learn' }).click();
    await page.locator('input[name=file]').setInputFiles(resolve(csv));
    await page.getByRole('button', { name: 'Train', exact: true }).click();
    const accuracy = page.locator('[data-accuracy]');
    await accuracy.waitFor({ timeout: 600_000 });
    expect(/^\d+(\.\d)?%$/.test(await accuracy.innerText()), 'the accuracy is a percentage');
  });

  await step('a classified text shows its label and is listed', async () => {
    await page.getByRole('link', { name: 'Documents' }).click();
    await page.getByRole('textbox', { name: 'Text', exact: true }).fill(text);
    await page.getByRole('button', { name: 'Classify and store' }).click();
    const label = (await page.locator('[data-label]').innerText()).trim();
    expect(label !== '', 'the verdict has a label');
    await filterBy(JSON.stringify({ text }));
    await row.waitFor();
    expect((await row.locator('.label').innerText()) === label, 'the list shows the same label');
  });

  if (values.screenshot) await page.screenshot({ path: values.screenshot, fullPage: true });

  await step('switching the language translates the page', async () => {
    await page.getByRole('button', { name: 'Português' }).click();
    await page.getByRole('heading', { name: 'Documentos guardados' }).waitFor();
    expect((await page.locator('html').getAttribute('lang')) === 'pt-BR', 'html has lang pt-BR');
    await page.reload();
    await page.getByRole('heading', { name: 'Documentos guardados' }).waitFor();
    await page.getByRole('button', { name: 'English' }).click();
  });

  await step('deleting removes it from the list', async () => {
    await filterBy(JSON.stringify({ text }));
    await row.getByRole('button', { name: 'Delete document' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete', exact: true }).click();
    await page.getByText('Document deleted.').waitFor();
    await page.getByText('No document matches this filter.').waitFor();
  });

  await step('no console error and no request to another host', () => {
    expect(complaints.length === 0, complaints.join('\n'));
  });
} finally {
  await browser.close();
}
console.log(`${results.passed} passed, ${results.failed} failed`);
process.exitCode = results.failed ? 1 : 0;

async function step(name, run) {
  try {
    await run();
    results.passed++;
    console.log(`ok   ${name}`);
  } catch (error) {
    results.failed++;
    console.log(`FAIL ${name}\n     ${String(error.message).replaceAll('\n', '\n     ')}`);
  }
}

function expect(held, what) {
  if (!held) throw new Error(`expected: ${what}`);
}

async function until(holds, what) {
  const deadline = Date.now() + 30_000;
  while (!(await holds())) {
    expect(Date.now() < deadline, what);
    await page.waitForTimeout(100);
  }
}

async function filterBy(filter) {
  await page.getByRole('textbox', { name: /^Filter/ }).fill(filter);
  await page.getByRole('button', { name: 'Apply' }).click();
}

/** The first example's text, which the trained model has seen, cut to a plain phrase. */
function firstText(data) {
  const [, line = ''] = data.split(/\r?\n/);
  return line
    .replace(/,[^,]*$/, '')
    .replaceAll('"', '')
    .slice(0, 120);
}
