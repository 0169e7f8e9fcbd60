/**
 * Every page, with three services on loopback. The test that starts this script can kill and restart them.
 *
 * Usage: node pages.mjs URL TRAIN_CSV [SCREENSHOTS]    (started by the web server's own tests)
 * The collection `many` has 10,000 documents.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { accessible, fits, launch, open, request, run, visit } from './browser.mjs';

const MANY = 10_000;
const PHONE = { width: 360, height: 740 };
const PAGES = ['Overview', 'Documents', 'Classify', 'Train', 'Monitor'];
const PAGINAS = ['Visão geral', 'Documentos', 'Classificar', 'Treinar', 'Monitorar'];

const [url, examples, screenshots] = process.argv.slice(2);
const browser = await launch();
const { page, faults } = await open(browser, url);
const service = (name) => page.locator('.services li').filter({ hasText: name });
const rows = page.locator('ul.documents li');
const count = page.locator('[data-count]');
const choose = (name) =>
  page.getByRole('group', { name: 'Collections' }).getByRole('button', { name }).click();

async function classify(text) {
  await page.locator('textarea[name=text]').fill(text);
  await page.locator('button[name=classify]').click();
}

/** Waits until the editor is open and has its document's text. */
function loaded() {
  return page.locator('dialog[open] textarea[name=json]:not(:read-only)').waitFor();
}

/** Waits until the list has the rows of these texts, in this order: it may show those of the order before for a moment. */
function listed(texts) {
  return page.waitForFunction((wanted) => {
    const rows = [...document.querySelectorAll('ul.documents li .text')];
    return rows.map((row) => row.innerText).join('\n') === wanted;
  }, texts.join('\n'));
}

async function save(json) {
  await page.locator('textarea[name=json]').fill(json);
  await page.locator('button[name=save]').click();
}

/** Runs a check that breaks connections, which the browser reports as errors. */
async function withBrokenConnections(check) {
  const before = faults.length;
  await check();
  const others = faults.splice(before).filter((fault) => !/Failed to load resource/.test(fault));
  assert.deepEqual(others, []);
}

await run({
  'the overview shows that three services are serving': async () => {
    await page.getByText('Serving', { exact: true }).nth(2).waitFor();
    assert.equal(await page.locator('.services li').count(), 3);
  },
  'an error shows its cause, its service and its trace': async () => {
    await visit(page, 'Classify');
    await classify('who knows');
    const problem = page.getByRole('alert');
    await problem.getByText('there is no model `default`').waitFor();
    assert.equal(await problem.locator('strong').innerText(), 'Not found');
    assert.match(await problem.innerText(), /ai-server/);
    assert.match(await problem.locator('[data-trace]').innerText(), /^[0-9a-f]{32}$/);
  },
  'an invalid CSV file is rejected before it is sent': async () => {
    await visit(page, 'Train');
    await page.locator('textarea[name=csv]').fill('text,label\na,x\nb');
    await page.getByText('Line 3 must have a text and a label.').waitFor();
    assert.ok(await page.locator('button[name=train]').isDisabled());
  },
  'the model learns from a CSV file': async () => {
    await page.locator('input[name=file]').setInputFiles(examples);
    await page.getByText('716 examples, 6 labels').waitFor();
    await page.locator('button[name=train]').click();
    const accuracy = await page.locator('[data-accuracy]').innerText();
    assert.ok(parseFloat(accuracy) > 50, accuracy);
    assert.equal(await page.locator('[data-examples]').innerText(), '716');
  },
  'a text is classified, and stored only on request': async () => {
    await visit(page, 'Classify');
    await page.locator('input[name=store]').uncheck();
    await classify('a relational database server with transactions');
    await page.getByText('Not stored.').waitFor();
    assert.equal(await page.locator('[data-label]').first().innerText(), 'database');
    await page.locator('input[name=store]').check();
    await classify('an outline font with many weights');
    await page.getByText('Stored in “documents” as').waitFor();
    assert.equal(await page.locator('[data-label]').first().innerText(), 'fonts');
  },
  'a document is created, found, edited and deleted': async () => {
    await visit(page, 'Documents');
    await count.getByText('Documents: 1', { exact: true }).waitFor();
    await page.locator('button[name=new]').click();
    await page.locator('textarea[name=json]').fill('{"text": "made by hand"');
    await page.getByText('Not a valid JSON object.').waitFor();
    assert.ok(await page.locator('button[name=save]').isDisabled());
    await save('{"text": "made by hand", "label": "mail"}');
    await page.getByText('Document created.').waitFor();
    await page.locator('input[name=filter]').fill('mail');
    await page.keyboard.press('Enter');
    await count.getByText('Documents: 1', { exact: true }).waitFor();
    await rows.getByText('made by hand').click();
    await loaded();
    await save('{"text": "edited by hand", "label": "mail"}');
    await page.getByText('Document saved.').waitFor();
    await rows.filter({ hasText: 'edited by hand' }).locator('button.icon').click();
    await page.locator('button[name=confirm-delete]').click();
    await page.getByText('Document deleted.').waitFor();
    await page.locator('button[name=clear]').click();
    await count.getByText('Documents: 1', { exact: true }).waitFor();
  },
  'a document keeps its text in the editor': async () => {
    const text =
      '{"z": 12345678901234567, "a": 1.10, "n": 12345678901234567890123,\n "10": 1, "9": 2}';
    const answer = await page.request.post(`${url}api/v1/collections/documents/documents`, {
      headers: { 'content-type': 'application/json' },
      data: Buffer.from(text),
    });
    const { id } = await answer.json();
    await page.locator('input[name=filter]').fill('{"a": 1.1}');
    await page.keyboard.press('Enter');
    await rows.getByText('12345678901234567').click();
    const editor = page.locator('textarea[name=json]');
    await loaded();
    assert.equal(await editor.inputValue(), text);
    await save(text.replace('1.10', '1.20'));
    await page.getByText('Document saved.').waitFor();
    const path = `${url}api/v1/collections/documents/documents/${id}`;
    const stored = await (await page.request.get(path)).text();
    assert.equal(stored, `{"id":"${id}","data":${text.replace('1.10', '1.20')}}`);
    await page.request.delete(path);
    await page.locator('button[name=clear]').click();
    await count.getByText('Documents: 1', { exact: true }).waitFor();
  },
  'a filter that the database rejects is explained': async () => {
    await page.locator('input[name=filter]').fill('{"a": {"$nonsense": 1}}');
    await page.keyboard.press('Enter');
    await page.getByRole('alert').getByText('$nonsense').waitFor();
    await page.locator('button[name=clear]').click();
    await page.getByRole('alert').waitFor({ state: 'detached' });
  },
  'the model learns from stored documents': async () => {
    await page.locator('input[name=collection]').fill('many');
    await page.keyboard.press('Enter');
    await visit(page, 'Train');
    await page.locator('input[name=model]').fill('second');
    await page.keyboard.press('Enter');
    await page.locator('button[name=train-from]').click();
    await page.locator('[data-examples]').getByText('10,000').waitFor();
    await page.locator('input[name=model]').fill('default');
    await page.keyboard.press('Enter');
    await page.locator('input[name=collection]').fill('documents');
    await page.keyboard.press('Enter');
  },
  'a list of 10,000 documents stays usable': async () => {
    await visit(page, 'Documents');
    const began = performance.now();
    await choose('many');
    await rows.first().waitFor();
    const first = performance.now() - began;
    await count.getByText('Documents: 10,000', { exact: true }).waitFor();
    const all = performance.now() - began;
    const inPage = await rows.count();
    assert.ok(inPage < 100, `${inPage} rows are in the page`);
    await rows.first().locator('.row').focus();
    const pressed = performance.now();
    await page.keyboard.press('End');
    await page.locator(`[data-index="${MANY - 1}"]:focus`).waitFor();
    const jump = performance.now() - pressed;
    assert.equal(
      await page.locator(':focus').locator('xpath=..').getAttribute('aria-posinset'),
      `${MANY}`,
    );
    await page.keyboard.press('ArrowUp');
    await page.locator(`[data-index="${MANY - 2}"]:focus`).waitFor();
    await page.keyboard.press('Home');
    await page.locator('[data-index="0"]:focus').waitFor();
    // Scroll through the whole list.
    const slowest = await page.evaluate(async () => {
      const scroller = document.querySelector('.scroller');
      const { left, top, width, height } = scroller.getBoundingClientRect();
      const middle = [left + width / 2, top + height / 2];
      let slowest = 0;
      for (let step = 1; step <= 60; step++) {
        const before = performance.now();
        scroller.scrollTop = (scroller.scrollHeight * step) / 61;
        await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
        slowest = Math.max(slowest, performance.now() - before);
        if (
          !document.elementsFromPoint(...middle).some((element) => element.closest('.documents li'))
        )
          throw new Error(`no row is drawn at step ${step}`);
      }
      return slowest;
    });
    console.log(
      `        first row ${first.toFixed(0)} ms, all ${all.toFixed(0)} ms, to the end ${jump.toFixed(0)} ms, slowest frame ${slowest.toFixed(0)} ms`,
    );
    // The list is fast because the page has only a few rows. A busy machine may stall for seconds.
    assert.ok(first < 50_000 && jump < 10_000 && slowest < 5_000);
    await choose('documents');
  },
  'the charts show the values of the feed': async () => {
    await visit(page, 'Monitor');
    await page.getByRole('img', { name: /^Model accuracy: now \d/ }).waitFor();
    await page.getByRole('img', { name: /^Predictions: now 2,/ }).waitFor();
    await page.waitForFunction(() =>
      /L/.test(document.querySelector('.chart .line').getAttribute('d')),
    );
    await page.locator('.timeline .up').first().waitFor();
  },
  'the page recovers when the database stops and starts': () =>
    withBrokenConnections(async () => {
      await visit(page, 'Overview');
      await request('kill database-server');
      await service('database-server').getByText('Not serving').waitFor();
      await page.getByText('Not serving: Database').waitFor();
      // The classifier needs the database and reports that; the web server still responds.
      assert.equal(await service('web-server').getByText('Serving', { exact: true }).count(), 1);
      await visit(page, 'Documents');
      const problem = page.getByRole('alert');
      await problem
        .getByText('`database-server`')
        .or(problem.getByText('is unreachable'))
        .first()
        .waitFor();
      assert.match(await problem.locator('[data-trace]').innerText(), /^[0-9a-f]{32}$/);
      await request('start database-server');
      await problem.waitFor({ state: 'detached' });
      await count.getByText('Documents: 1', { exact: true }).waitFor();
      await visit(page, 'Overview');
      await page.getByText('Serving', { exact: true }).nth(2).waitFor();
    }),
  'the page recovers when the web server stops and starts': () =>
    withBrokenConnections(async () => {
      await request('kill web-server');
      await page.getByText('Reconnecting…').waitFor();
      await service('ai-server').getByText('Unknown').waitFor();
      await page.getByRole('alert').getByText('The server does not respond').waitFor();
      await request('start web-server');
      await page.getByText('Live', { exact: true }).waitFor();
      await page.getByText('Serving', { exact: true }).nth(2).waitFor();
    }),
  'Escape asks before it discards edits': async () => {
    await visit(page, 'Documents');
    await page.locator('button[name=new]').waitFor();
    // The editor opens with its text, so that nothing is typed into the text before.
    const first = await page.evaluate(
      () =>
        new Promise((resolve) => {
          const dialog = document.querySelector('app-editor dialog');
          const text = dialog.querySelector('textarea');
          const observed = new MutationObserver(() => resolve(text.value));
          observed.observe(dialog, { attributeFilter: ['open'] });
          document.querySelector('button[name=new]').click();
        }),
    );
    assert.deepEqual(JSON.parse(first), { text: '', label: '' });
    await page.keyboard.press('Escape');
    await page.locator('dialog[open]').waitFor({ state: 'detached' });
    await page.locator('button[name=new]').click();
    const editor = page.locator('textarea[name=json]');
    await editor.fill('{"a": 1}');
    for (let press = 0; press < 3; press++) await page.keyboard.press('Escape');
    await page.getByText('The changes are not saved.').waitFor();
    await page.locator('button[name=keep]').click();
    assert.equal(await editor.inputValue(), '{"a": 1}');
    await page.keyboard.press('Escape');
    await page.locator('button[name=discard]').click();
    await page.locator('dialog[open]').waitFor({ state: 'detached' });
  },
  'the newest documents come first, other orders are a choice, and an error that stays has no retry':
    async () => {
      await visit(page, 'Documents');
      await page.locator('input[name=filter]').fill('newest');
      await page.locator('button[name=apply]').click();
      await page.locator('p.empty').waitFor();
      for (const text of ['first', 'second', 'third']) {
        await page.locator('button[name=new]').click();
        await save(JSON.stringify({ text, label: 'newest' }));
        await page.locator('dialog[open]').waitFor({ state: 'detached' });
      }
      await page.locator('button[name=apply]').click();
      await listed(['third', 'second', 'first']);
      for (const [order, expected] of [
        ['text', ['first', 'second', 'third']],
        ['-text', ['third', 'second', 'first']],
        ['_id', ['first', 'second', 'third']],
      ]) {
        await page.locator('select[name=order]').selectOption(order);
        await page.waitForURL((url) => url.searchParams.get('order') === order);
        await listed(expected);
      }
      await page.reload();
      await listed(['first', 'second', 'third']);
      await page.locator('select[name=order]').selectOption('-_id');
      await page.locator('input[name=filter]').fill('{"$nothing": 1}');
      await page.locator('button[name=apply]').click();
      await page.getByRole('alert').waitFor();
      assert.equal(await page.getByRole('button', { name: 'Try again' }).count(), 0);
      await page.locator('button[name=clear]').click();
    },
  'the address has collection, filter and document: for links, reloads and the back button':
    async () => {
      const editor = page.locator('textarea[name=json]');
      const opened = page.locator('dialog[open]');
      const address = () => Object.fromEntries(new URL(page.url()).searchParams);
      await visit(page, 'Documents');
      await choose('many');
      await page.locator('input[name=filter]').fill('{"text": {"$regex": "^77: "}}');
      await page.locator('button[name=apply]').click();
      await count.getByText('Documents: 1', { exact: true }).waitFor();
      await rows.first().locator('.row').click();
      await opened.waitFor();
      const { document, ...others } = address();
      assert.deepEqual(others, {
        collection: 'many',
        filter: '{"text": {"$regex": "^77: "}}',
        model: 'default',
      });
      const shown = async () => {
        await opened.getByText(document).waitFor();
        await page.waitForFunction(() =>
          /77: /.test(globalThis.document.querySelector('[name=json]').value),
        );
        await count.getByText('Documents: 1', { exact: true }).waitFor();
      };
      await page.reload();
      await shown();
      await page.goBack();
      await opened.waitFor({ state: 'detached' });
      assert.deepEqual(address(), others);
      await page.goForward();
      await shown();
      // A step back asks about edits too, and keeps the address.
      await editor.fill('{"a": 1}');
      await page.goBack();
      await page.getByText('The changes are not saved.').waitFor();
      await page.waitForURL((url) => url.searchParams.get('document') === document);
      await page.locator('button[name=discard]').click();
      await opened.waitFor({ state: 'detached' });
      // The page leaves the document's address once the dialog is closed.
      await page.waitForURL((url) => !url.searchParams.has('document'));
      assert.deepEqual(address(), others);
      // The same link elsewhere, where another collection was used last.
      const link = page.url();
      await choose('documents');
      await page.locator('button[name=clear]').click();
      await count.getByText(/^Documents: [1-9]/).waitFor();
      await page.goto(link);
      await count.getByText('Documents: 1', { exact: true }).waitFor();
      assert.equal(await page.locator('input[name=filter]').inputValue(), others.filter);
      assert.equal(await page.locator('input[name=collection]').inputValue(), 'many');
      await page.locator('button[name=clear]').click();
      await choose('documents');
      await count.getByText(/^Documents: [1-9]/).waitFor();
      // A selection is kept across pages, and the back button undoes it.
      await visit(page, 'Train');
      await page.getByText('Uses all documents in “documents”').waitFor();
      await page.locator('input[name=collection]').fill('other');
      await page.keyboard.press('Enter');
      await page.getByText('Uses all documents in “other”').waitFor();
      await page.goBack();
      await page.getByText('Uses all documents in “documents”').waitFor();
    },
  'a file is uploaded, its bad lines are named, and what is shown is exported with the same text':
    async () => {
      const saved = async (name) => {
        const waiting = page.waitForEvent('download');
        await page.locator(`button[name=${name}]`).click();
        return readFileSync(await (await waiting).path(), 'utf8');
      };
      const upload = (name, text) =>
        page.locator('input[name=upload]').setInputFiles({
          name,
          mimeType: 'application/octet-stream',
          buffer: Buffer.from(text),
        });
      await visit(page, 'Documents');
      await page.locator('input[name=collection]').fill('bulk');
      await page.keyboard.press('Enter');
      const lines = Array.from(
        { length: 250 },
        (_, number) => `{"z": 12345678901234567, "a": 1.10, "number": ${number}}`,
      );
      await upload('some.jsonl', [lines[0], '{"a":', ...lines.slice(1), '[1]'].join('\n'));
      await page.locator('[data-uploaded]').getByText('Documents stored: 250').waitFor();
      assert.deepEqual(await page.locator('.lines li').allInnerTexts(), [
        'Line 2: Not a valid JSON object.',
        'Line 252: Not a valid JSON object.',
      ]);
      await count.getByText('Documents: 250', { exact: true }).waitFor();
      const exported = (await saved('export-jsonl')).trimEnd().split('\n');
      assert.deepEqual(exported.toSorted(), lines.toSorted());
      // Only what the filter selects, in the order of the list.
      await page.locator('input[name=filter]').fill('{"number": {"$lt": 2}}');
      await page.locator('button[name=apply]').click();
      await count.getByText('Documents: 2', { exact: true }).waitFor();
      await page.locator('select[name=order]').selectOption('-number');
      await page.waitForURL((url) => url.searchParams.get('order') === '-number');
      const table = await saved('export-csv');
      assert.equal(
        table,
        `z,a,number\r\n${[1, 0].map((n) => `12345678901234567,1.10,${n}\r\n`).join('')}`,
      );
      await upload('some.csv', table.replace('1\r', '77\r').replace('0\r', '"77\r'));
      await page
        .locator('.lines li')
        .getByText('Line 3: The quote opened here is not closed.')
        .waitFor();
      await upload('some.csv', table.replace('1\r', '77\r').replace('0\r', '77,8\r'));
      await page.locator('[data-uploaded]').getByText('Documents stored: 1').waitFor();
      await page.locator('.lines li').getByText('Line 3: The number of values').waitFor();
      await page
        .locator('input[name=filter]')
        .fill('{"number": 77, "a": 1.1, "z": 12345678901234567}');
      await page.locator('button[name=apply]').click();
      await count.getByText('Documents: 2', { exact: true }).waitFor();
      assert.equal(
        await saved('export-jsonl'),
        '{"z":12345678901234567,"a":1.10,"number":77}\n{"z": 12345678901234567, "a": 1.10, "number": 77}\n',
      );
      await page.locator('button[name=clear]').click();
      await choose('documents');
      await page.locator('select[name=order]').selectOption('-_id');
      await count.getByText(/^Documents: [1-9]/).waitFor();
    },
  'a page that was opened later shows the last minutes': async () => {
    const later = await open(browser, url);
    // Without the feed, all values are of the history.
    await later.page.route('**/WatchSummary', (route) => route.abort());
    // The web server was restarted a moment ago: open the page until it has taken two samples.
    const drawn = () =>
      later.page
        .waitForFunction(
          () =>
            /L/.test(globalThis.document.querySelectorAll('.chart .line')[2]?.getAttribute('d')),
          undefined,
          { timeout: 5_000 },
        )
        .then(() => true)
        .catch(() => false);
    const end = performance.now() + 120_000;
    do {
      assert.ok(performance.now() < end, 'the charts have no history');
      await later.page.goto(`${url}monitor`);
    } while (!(await drawn()));
    await later.page.getByRole('img', { name: /^Predictions: now [1-9]/ }).waitFor();
    const marks = (chart) => later.page.locator('.chart').nth(chart).locator('.scale span');
    assert.deepEqual(await marks(0).allInnerTexts(), ['100%', '50%', '0%']);
    for (const chart of [0, 1, 2, 3]) {
      const labels = await marks(chart).allInnerTexts();
      assert.equal(new Set(labels).size, labels.length, labels);
    }
    await later.page.close();
  },
  'the keyboard reaches everything': async () => {
    await page.goto(url);
    await page.keyboard.press('Tab');
    assert.equal(await page.locator(':focus').innerText(), 'Skip to content');
    await page.keyboard.press('Enter');
    assert.equal(await page.locator(':focus').getAttribute('id'), 'main');
    await page.reload();
    await page.getByRole('link', { name: 'Documents', exact: true }).waitFor();
    for (let press = 0; press < 4; press++) await page.keyboard.press('Tab');
    assert.equal(await page.locator(':focus').innerText(), 'Documents');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: 'Documents' }).waitFor();
    await rows.first().waitFor();
    await page.locator('select[name=order]').focus();
    await page.keyboard.press('Tab');
    assert.match(await page.locator(':focus').getAttribute('class'), /row/);
    await page.keyboard.press('Enter');
    await page.locator('dialog[open]').waitFor();
    await page.keyboard.press('Escape');
    await page.locator('dialog[open]').waitFor({ state: 'detached' });
  },
  'axe finds no serious violation, in light and dark': async () => {
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      for (const name of PAGES) {
        await visit(page, name);
        await page.getByRole('heading', { level: 1, name }).waitFor();
        await accessible(page, `${name}, ${colorScheme}`);
      }
    }
  },
  'a phone needs no sideways scrolling, in both languages': async () => {
    await page.setViewportSize(PHONE);
    for (const names of [PAGES, PAGINAS]) {
      for (const name of names) {
        await visit(page, name);
        await page.getByRole('heading', { level: 1, name }).waitFor();
        await fits(page, name);
      }
      await page.locator('.languages button[lang^=pt]').click();
    }
    await accessible(page, 'Monitorar, on a phone');
    await page.locator('.languages button[lang=en]').click();
  },
  'no error, and no request to another host': async () => {
    assert.deepEqual(faults, []);
  },
});

// For work on the design: pictures of every page with data, in light and dark and on a phone.
if (screenshots) {
  await page.setViewportSize({ width: 1200, height: 900 });
  await visit(page, 'Documents');
  await choose('many');
  await visit(page, 'Classify');
  for (const text of ['a mail transfer agent with filters', 'a game of chess for two players']) {
    await classify(text);
    await page.locator('.results').getByText(text).waitFor();
  }
  const lines = readFileSync(examples, 'utf8').split('\n').slice(1, 200);
  await page.evaluate(async (texts) => {
    for (const text of texts) {
      await fetch('/api/v1/classify', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ text }),
      });
      await new Promise((resolve) => setTimeout(resolve, 20 + 200 * Math.random()));
    }
  }, lines);
  const shots = { light: [1200, 900], dark: [1200, 900], phone: [PHONE.width, PHONE.height] };
  for (const [shot, [width, height]] of Object.entries(shots)) {
    await page.setViewportSize({ width, height });
    const colorScheme = shot === 'dark' ? 'dark' : 'light';
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    for (const title of ['Classify', 'Overview', 'Documents', 'Train', 'Monitor']) {
      if (title !== 'Classify' || shot !== 'light') await visit(page, title);
      await page.getByRole('heading', { level: 1, name: title }).waitFor();
      if (title === 'Documents') await rows.nth(5).waitFor();
      await page.mouse.move(0, 0);
      const path = `${screenshots}/${shot}-${title.toLowerCase()}.png`;
      await page.screenshot({ path, animations: 'disabled' });
    }
  }
}
await browser.close();
process.stdin.destroy();
