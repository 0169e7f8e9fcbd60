/**
 * The client with a running deployment: visits every page once.
 *
 * Usage: node deployment.mjs URL TRAIN_CSV [SCREENSHOT]
 */
import assert from 'node:assert/strict';
import { launch, open, run, visit } from './browser.mjs';

const [url, examples, screenshot] = process.argv.slice(2);
const browser = await launch();
const { page, faults } = await open(browser, url);

/** A text that no earlier run has stored. */
const text = `secure shell client and network tunnel daemon ${Date.now()}`;

await run({
  'the overview shows that three services are serving': async () => {
    await page.getByText('Serving', { exact: true }).nth(2).waitFor();
    assert.equal(await page.locator('.services li').count(), 3);
  },
  'the model learns from a CSV file': async () => {
    await visit(page, 'Train');
    await page.locator('input[name=file]').setInputFiles(examples);
    await page.locator('button[name=train]').click();
    await page.locator('[data-accuracy]').waitFor();
  },
  'a text is classified and stored': async () => {
    await visit(page, 'Classify');
    await page.locator('textarea[name=text]').fill(text);
    await page.locator('button[name=classify]').click();
    await page.locator('[data-label]').waitFor();
    assert.notEqual(await page.locator('[data-label]').innerText(), '');
    assert.match(await page.locator('[data-stored]').innerText(), /^Stored in “documents” as \S+$/);
  },
  'the stored document is found by its text, and deleted': async () => {
    await visit(page, 'Documents');
    await page.locator('input[name=filter]').fill(JSON.stringify({ text }));
    await page.locator('button[name=apply]').click();
    const row = page.locator('ul.documents li').filter({ hasText: text });
    await page.locator('[data-count]').getByText('Documents: 1', { exact: true }).waitFor();
    await row.locator('button.icon').click();
    await page.locator('button[name=confirm-delete]').click();
    await page.getByText('Document deleted.').waitFor();
    await row.waitFor({ state: 'detached' });
  },
  'the charts show the values of the feed': async () => {
    await visit(page, 'Monitor');
    await page.getByRole('img', { name: /^Model accuracy: now \d/ }).waitFor();
  },
  'the page can switch to Portuguese': async () => {
    await page.locator('.languages button[lang^=pt]').click();
    await page.getByRole('link', { name: 'Documentos' }).waitFor();
    await page.locator('.languages button[lang=en]').click();
  },
  'no error, and no request to another host': async () => {
    assert.deepEqual(faults, []);
  },
});
if (screenshot) {
  await visit(page, 'Overview');
  // Wait for the values that arrive after the checks above; draw no transition.
  await page.locator('.statistics dd').nth(3).filter({ hasText: '%' }).waitFor();
  await page.screenshot({ path: screenshot, animations: 'disabled' });
}
await browser.close();
process.stdin.destroy();
