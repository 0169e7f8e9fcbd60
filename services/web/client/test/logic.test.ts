import assert from 'node:assert/strict';
import { test } from 'node:test';
import { batches } from '../src/app/batches.ts';
import { checkCsv, examples } from '../src/app/csv.ts';
import { dictionaries, fill, pickLanguage } from '../src/app/dictionary.ts';
import { formatOf, read, write } from '../src/app/exchange.ts';
import { batch, isSorted, NEWEST, orders, sorted, toFilter } from '../src/app/filter.ts';
import { indent, members, parseObject } from '../src/app/json-text.ts';
import {
  append,
  ceiling,
  path,
  rates,
  scale,
  span,
  SPAN,
  timeline,
  type Sample,
} from '../src/app/history.ts';

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

test('batches of results are within the limits of the user, and keep the rest of the filter', () => {
  const cases: [string, number, string][] = [
    ['', 0, '{"$limit":5,"$sort":{"_id":-1}}'],
    ['', 10, '{"$limit":5,"$skip":10,"$sort":{"_id":-1}}'],
    ['{"a":1}', 10, '{"a":1,"$limit":5,"$skip":10,"$sort":{"_id":-1}}'],
    ['{"$limit":2}', 0, '{"$limit":2,"$sort":{"_id":-1}}'],
    ['{"$limit":12}', 10, '{"$limit":2,"$skip":10,"$sort":{"_id":-1}}'],
    ['{"$limit":12}', 15, '{"$limit":0,"$skip":15,"$sort":{"_id":-1}}'],
    ['{"$skip":3}', 0, '{"$limit":5,"$skip":3,"$sort":{"_id":-1}}'],
    ['{"$skip":3}', 5, '{"$limit":5,"$skip":8,"$sort":{"_id":-1}}'],
    ['{"$skip":3,"$limit":7}', 5, '{"$limit":2,"$skip":8,"$sort":{"_id":-1}}'],
    ['{"$limit":"x"}', 5, '{"$limit":"x","$skip":5,"$sort":{"_id":-1}}'],
    [
      '{"z" : 12345678901234567, "$sort": {"9": 1, "1": -1},"a":[1.10, "}\\",{"]}',
      0,
      '{"z" : 12345678901234567,"$sort": {"9": 1, "1": -1},"a":[1.10, "}\\",{"],"$limit":5}',
    ],
  ];
  for (const [filter, loaded, expected] of cases)
    assert.equal(batch(filter, 5, loaded, NEWEST), expected, filter);
});

test('an order is by age or by a field, unless the filter has its own', () => {
  const cases: [string, string, string][] = [
    ['', '-_id', '{"$sort":{"_id":-1}}'],
    ['', '_id', '{"$sort":{"_id":1}}'],
    ['{"a" : 1.10}', 'label', '{"a" : 1.10,"$sort":{"label":1,"_id":-1}}'],
    ['{"$limit":3}', '-say "hi"', '{"$limit":3,"$sort":{"say \\"hi\\"":-1,"_id":-1}}'],
    ['{"$sort":{"z":1}}', '-label', '{"$sort":{"z":1}}'],
  ];
  for (const [filter, order, expected] of cases) {
    assert.equal(sorted(filter, order), expected, filter);
    assert.equal(isSorted(filter), filter.includes('$sort'), filter);
  }
  assert.equal(
    batch('{"a":1}', 5, 5, '-b'),
    '{"a":1,"$limit":5,"$skip":5,"$sort":{"b":-1,"_id":-1}}',
  );
  assert.deepEqual(orders(['{"b":1,"a.b":2,"$c":3,"_id":4}', 'no', '{"a":1}'], '-z'), [
    ...['-_id', '_id', 'a', '-a', 'b', '-b', 'z', '-z'],
  ]);
});

/** Texts of JSON objects as people and programs write them; the same ones in each run. */
function* objectTexts(count: number): Generator<string> {
  let seed = 1;
  const below = (limit: number): number => {
    seed = (seed * 48271) % 2147483647;
    return seed % limit;
  };
  const one = (of: readonly string[]): string => of[below(of.length)]!;
  const space = (): string => one(['', '', '', ' ', '\n', '\r\n\t']);
  const string = (): string =>
    one(['""', '"a"', '"\\u0061\\/\\"\\\\"', '"é {[,:]} 😀"', '"__proto__"', '"10"']);
  const scalar = (): string =>
    one(['-0', '1.10', '1E+02', '12345678901234567', '12345678901234567890123', 'true', 'null']);
  const list = (open: string, close: string, element: () => string): string => {
    const all = Array.from({ length: below(5) }, () => `${space()}${element()}${space()}`);
    return `${open}${all.join(',') || space()}${close}`;
  };
  const value = (depth: number): string => {
    const kind = below(depth === 0 ? 2 : 4);
    if (kind === 0) return scalar();
    if (kind === 1) return string();
    return kind === 2 ? object(depth - 1) : list('[', ']', () => value(depth - 1));
  };
  const object = (depth: number): string =>
    list('{', '}', () => `${string()}${space()}:${space()}${value(depth)}`);
  for (let index = 0; index < count; index++) yield `${space()}${object(4)}${space()}`;
}

/** A text without the spaces that are not in a string. */
const dense = (text: string): string =>
  text.replace(/("(?:[^"\\]|\\.)*")|\s/g, (_, string: string | undefined) => string ?? '');

test('texts of documents and filters are never rewritten', () => {
  for (const text of objectTexts(2000)) {
    assert.notEqual(parseObject(text), null, text);
    const all = members(text);
    assert.equal(dense(`{${all.map((member) => member.text).join(',')}}`), dense(text), text);
    const parsed = Object.fromEntries(all.map(({ name, value }) => [name, value]));
    assert.deepEqual(
      JSON.stringify(parsed),
      JSON.stringify(Object.fromEntries(Object.entries(parseObject(text)!))),
      text,
    );
    assert.equal(
      dense(batch(text, 5, 0, NEWEST)),
      dense(text).replace(/}$/, `${dense(text) === '{}' ? '' : ','}"$limit":5,"$sort":{"_id":-1}}`),
      text,
    );
    assert.equal(dense(indent(text)), dense(text), text);
  }
  assert.equal(
    indent('{"b":1.10,"a":[],"c":{"d":["{",12345678901234567]}}'),
    '{\n  "b": 1.10,\n  "a": [],\n  "c": {\n    "d": [\n      "{",\n      12345678901234567\n    ]\n  }\n}',
  );
});

test('only objects are documents', () => {
  for (const text of ['', '1', '[{}]', '{', '{"a":1,}', 'null', '"{}"'])
    assert.equal(parseObject(text), null, text);
});

test('examples are cut into batches that fit into a call', () => {
  const all = examples('text,label\n"a, b", x \nc,y\n');
  assert.deepEqual(all, [
    { text: 'a, b', label: 'x' },
    { text: 'c', label: 'y' },
  ]);
  const long = { text: 'x'.repeat(300_000), label: 'x' };
  const sizeOf = ({ text }: { text: string }): number => text.length;
  const sizes = [...batches([long, long, all[0]!, long], sizeOf)].map((batch) => batch.length);
  assert.deepEqual(sizes, [1, 2, 1]);
  assert.deepEqual([...batches([], sizeOf)], []);
  assert.deepEqual([...batches([1, 2, 3, 4, 5], () => 1, 2)], [[1, 2], [3, 4], [5]]);
});

test('what is exported as JSON Lines is the same text when it is uploaded', () => {
  const texts = [...objectTexts(500)];
  const file = write('jsonl', texts).join('');
  const lines = read('jsonl', file);
  assert.equal(lines.length, texts.length);
  lines.forEach((line, index) => {
    assert.ok('data' in line, JSON.stringify(line));
    assert.equal(line.line, index + 1);
    assert.equal(line.data, texts[index]!.replace(/[\r\n]+/g, ' ').trim());
  });
});

test('what is exported as CSV has the same values when it is uploaded, digit by digit', () => {
  const texts = [
    '{"text":"a, \\"b\\"\\nc","n":12345678901234567,"x":1.10,"label":"12"}',
    '{"n":12345678901234567890123,"list":[1.0,{"a":"b"}],"text":"","label":"true"}',
    '{"label":" space ","text":"\\"quoted\\"","x":null,"yes":true}',
    '{"text":"Ünïcode 😀","label":"{"}',
  ];
  const file = write('csv', texts).join('');
  assert.equal(file.split('\r\n')[0], 'text,n,x,label,list,yes');
  const back = read('csv', file).map((line) => ('data' in line ? line.data : JSON.stringify(line)));
  const inOrder = (text: string): string[] =>
    members(text)
      .map((member) => member.text)
      .sort();
  assert.deepEqual(back.map(inOrder), texts.map(inOrder));
  assert.deepEqual(write('csv', []), ['\r\n']);
});

test('each bad line of an upload is named with its number', () => {
  assert.deepEqual(read('jsonl', '\uFEFF{"a":1}\r\n\n[1]\n {"b" : 2.0} \n{"c":'), [
    { line: 1, data: '{"a":1}' },
    { line: 3, fault: 'object' },
    { line: 4, data: '{"b" : 2.0}' },
    { line: 5, fault: 'object' },
  ]);
  assert.deepEqual(read('csv', '\uFEFFa,b\n1,"x\ny"\n2\n,z\n'), [
    { line: 2, data: '{"a":1,"b":"x\\ny"}' },
    { line: 4, fault: 'cells' },
    { line: 5, data: '{"b":"z"}' },
  ]);
  assert.deepEqual(read('csv', 'a\n1\n"b\n'), [{ line: 3, fault: 'quote' }]);
  assert.deepEqual(['A.CSV', 'a.jsonl', 'csv', 'a.ndjson'].map(formatOf), [
    ...['csv', 'jsonl', 'jsonl', 'jsonl'],
  ]);
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

test('the marks of an axis are round, all different, and reach all values', () => {
  const cases: [number, boolean, number[]][] = [
    [0, true, [1, 0]],
    [1, true, [1, 0]],
    [3, true, [3, 2, 1, 0]],
    [12, true, [15, 10, 5, 0]],
    [700, true, [800, 600, 400, 200, 0]],
    [1, false, [1, 0.5, 0]],
    [0.3, false, [0.3, 0.2, 0.1, 0]],
    [0.04, false, [0.04, 0.03, 0.02, 0.01, 0]],
  ];
  for (const [most, counted, expected] of cases)
    assert.deepEqual(scale(most, counted).ticks, expected, `${most}`);
  for (const language of ['en', 'pt-BR'])
    for (let most = 1e-4; most < 1e9; most *= 1.07)
      for (const counted of [true, false]) {
        const { ticks, digits } = scale(most, counted);
        const format = new Intl.NumberFormat(language, { maximumFractionDigits: digits });
        const labels = ticks.map((tick) => format.format(tick));
        assert.equal(new Set(labels).size, labels.length, `${most}: ${labels}`);
        assert.ok(
          ticks.length <= 6 && ticks[0]! >= most && ticks.at(-1) === 0,
          `${most}: ${labels}`,
        );
        if (counted) assert.ok(ticks.every(Number.isInteger), `${most}: ${labels}`);
      }
  assert.deepEqual([0, 60_000, 60_001, 200_000, 400_000, SPAN].map(span), [
    ...[60_000, 60_000, 120_000, 300_000, SPAN, SPAN],
  ]);
});

test('a timeline shows each failure of the last minutes, however samples are spaced', () => {
  const at = (seconds: number, up?: boolean): Sample => ({
    ...sample(seconds * 1000, undefined),
    serving: up === undefined ? {} : { db: up },
  });
  const samples = [at(-100, false), at(0, true), at(130, true), at(131, false), at(139, true)];
  samples.push(at(250), at(590, true), at(600, true));
  assert.deepEqual(timeline(samples, 'db', 10), ['', '', 'down', '', '', '', '', '', '', 'up']);
  assert.deepEqual(timeline([], 'db', 2), ['', '']);
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
