/**
 * Signing in to a server that requires a token.
 *
 * Usage: node sign-in.mjs URL TOKEN    (started by the web server's own tests)
 */
import assert from 'node:assert/strict';
import { accessible, launch, open, run } from './browser.mjs';

const [url, token] = process.argv.slice(2);
const browser = await launch();
const { page, faults } = await open(browser, `${url}documents`);
const field = page.locator('input[name=token]');

async function signIn(shown) {
  await field.fill(shown);
  await page.keyboard.press('Enter');
}

await run({
  'a visitor sees only the sign-in page': async () => {
    await field.waitFor();
    assert.equal(await page.getByRole('navigation').count(), 0);
    await accessible(page, 'the sign-in page');
  },
  'a wrong token is rejected': async () => {
    await signIn('not the token');
    await page.getByText('The token is wrong.').waitFor();
    // The browser reports the rejected request, and no other fault.
    assert.equal(faults.length, 1);
    assert.match(faults.pop(), /401/);
  },
  'the token opens the requested page': async () => {
    await signIn(token);
    await page.getByRole('heading', { level: 1, name: 'Documents' }).waitFor();
    await page.getByText('There are no documents yet.').waitFor();
    await page.getByText('Live', { exact: true }).waitFor();
  },
  'no script can read the session': async () => {
    assert.equal(await page.evaluate(() => document.cookie), '');
  },
  'the session survives a reload, and ends when signing out': async () => {
    await page.reload();
    await page.getByText('Live', { exact: true }).waitFor();
    await page.locator('button[name=sign-out]').click();
    await field.waitFor();
    await page.reload();
    await field.waitFor();
  },
  'no error, and no request to another host': async () => {
    assert.deepEqual(faults, []);
  },
});
await browser.close();
process.stdin.destroy();
