import assert from 'node:assert/strict';
import { test } from 'node:test';
import { batches, checkCsv, examples } from '../src/app/csv.ts';
import { dictionaries, fill, pickLanguage } from '../src/app/dictionary.ts';
import { batch, toFilter } from '../src/app/filter.ts';
import { append, ceiling, path, rates, SPAN, type Sample } from '../src/app/history.ts';

test('training data is checked before it is sent', () => {
  const cases: [string, ReturnType<typeof checkCsv>][] = [
    ['text,label\na,x\nb,y\n', { ok: true, examples: 2, labels: 2 }],
    ['\uFEFFtext,label\r\n"a, ""b""\nc",x\r\nd,y', { ok: true, examples: 2, labels: 2 }],
    ['', { ok: false, reason: 'header', line: 1 }],
    ['label,text\na,x', { ok: false, reason: 'header', line: 1 }],
    ['text,label\n"a\nb",x\nc', { ok: false, reason: 'row', line: 4 }],
    ['text,label\na,x\nb,', { ok: false, reason: 'row', line: 3 }],
    ['text,label\na,x\n"b,y', { ok: false, reason: 'quote', line: 3 }],
    ['text,label\na,x\nb,x', { ok: false, reason: 'few', line: 1 }],
  ];
  for (const [text, expected] of cases) assert.deepEqual(checkCsv(text), expected, text);
});

test('a filter is a label or a JSON object', () => {
  const cases: [string, string | null][] = [
    ['  ', ''],
    [' tech ', '{"label":"tech"}'],
    ['say "hi"', '{"label":"say \\"hi\\""}'],
    ['{"label":"tech"}', '{"label":"tech"}'],
    ['{label}', null],
  ];
  for (const [typed, expected] of cases) assert.equal(toFilter(typed), expected, typed);
});

test('one batch of results keeps a limit of the user', () => {
  const cases: [string, number, string][] = [
    ['', 0, '{"$limit":5}'],
    ['{"a":1}', 10, '{"$limit":5,"$skip":10,"a":1}'],
    ['{"$limit":2}', 0, '{"$limit":2}'],
  ];
  for (const [filter, skip, expected] of cases)
    assert.equal(batch(filter, 5, skip), expected, filter);
});

test('examples are cut into batches that fit into a call', () => {
  const all = examples('text,label\n"a, b", x \nc,y\n');
  assert.deepEqual(all, [
    { text: 'a, b', label: 'x' },
    { text: 'c', label: 'y' },
  ]);
  const long = { text: 'x'.repeat(300_000), label: 'x' };
  const sizes = [...batches([long, long, all[0]!, long])].map((batch) => batch.length);
  assert.deepEqual(sizes, [1, 2, 1]);
  assert.deepEqual([...batches([])], []);
});

const sample = (time: number, predictions: number | undefined): Sample => ({
  time,
  predictions,
  accuracy: undefined,
  confidence: undefined,
  serving: {},
});

test('the history drops samples that are too old', () => {
  const samples = append([sample(0, 1), sample(1000, 2)], sample(SPAN + 500, 3));
  assert.deepEqual(
    samples.map(({ time }) => time),
    [1000, SPAN + 500],
  );
});

test('rates are between neighbours, restart with a counter, and have gaps', () => {
  const samples = [sample(0, 4), sample(2000, 10), sample(4000, 2), sample(6000, undefined)];
  assert.deepEqual(
    rates(samples).map(({ value }) => value),
    [3, 1, undefined],
  );
});

test('a line has a gap where values are missing', () => {
  const points = [0, 1, undefined, 0.5, 1].map((value, time) => ({ time, value }));
  const box = { from: 0, to: 4, least: 0, most: 1, width: 40, height: 10 };
  assert.equal(path(points, box), 'M0 10L10 0M30 5L40 0');
  assert.deepEqual([0, 0.3, 1, 3, 12, 700].map(ceiling), [1, 0.5, 1, 5, 20, 1000]);
});

test('the languages use the same placeholders in each text', () => {
  const places = (text: string): string[] => (text.match(/\{\w+\}/g) ?? []).sort();
  for (const [key, sentence] of Object.entries(dictionaries.en)) {
    const translated = Reflect.get(dictionaries['pt-BR'], key) as string;
    assert.deepEqual(places(translated), places(sentence), key);
  }
});

test('the languages of the browser select the language', () => {
  assert.equal(pickLanguage(['fr', 'pt-PT', 'en']), 'pt-BR');
  assert.equal(pickLanguage(['fr']), 'en');
  assert.equal(fill('{a} of {b}', { a: 1 }), '1 of {b}');
});
