import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkCsv } from '../src/app/csv.ts';
import { dictionaries, fill, pickLanguage } from '../src/app/dictionary.ts';
import { toFilter } from '../src/app/filter.ts';
import { takeEvents } from '../src/app/sse.ts';

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

test('events are taken from the stream whole', () => {
  assert.deepEqual(takeEvents(': hi\n\ndata: {"a":1}\r\n\r\ndata: x\ndata: y\n\ndata: {'), {
    events: ['{"a":1}', 'x\ny'],
    rest: 'data: {',
  });
});

test('the languages use the same places in each sentence', () => {
  const places = (text: string): string[] => (text.match(/\{\w+\}/g) ?? []).sort();
  for (const [key, sentence] of Object.entries(dictionaries.en)) {
    const translated = Reflect.get(dictionaries['pt-BR'], key) as string;
    assert.deepEqual(places(translated), places(sentence), key);
  }
});

test('the browser chooses the language', () => {
  assert.equal(pickLanguage(['fr', 'pt-PT', 'en']), 'pt-BR');
  assert.equal(pickLanguage(['fr']), 'en');
  assert.equal(fill('{a} of {b}', { a: 1 }), '1 of {b}');
});
