/**
 * Signing in at a server that wants a token.
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
  'a stranger sees the door only': async () => {
    await field.waitFor();
    assert.equal(await page.getByRole('navigation').count(), 0);
    await accessible(page, 'the door');
  },
  'a wrong token is refused': async () => {
    await signIn('not the token');
    await page.getByText('This is not the token of this server.').waitFor();
    // The browser reports the refusal; it is the only fault.
    assert.equal(faults.length, 1);
    assert.match(faults.pop(), /401/);
  },
  'the token opens the page that was asked for': async () => {
    await signIn(token);
    await page.getByRole('heading', { level: 1, name: 'Documents' }).waitFor();
    await page.getByText('Nothing is stored here yet.').waitFor();
    await page.getByText('Live', { exact: true }).waitFor();
  },
  'no script can read the session': async () => {
    assert.equal(await page.evaluate(() => document.cookie), '');
  },
  'the session outlives a reload, and ends by signing out': async () => {
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
