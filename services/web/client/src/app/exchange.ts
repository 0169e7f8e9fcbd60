/**
 * Documents as files: JSON Lines, and CSV with a column for each member. Values keep their text in both directions.
 *
 * A cell of CSV is a JSON value if it is one, otherwise a string; an empty cell adds no member. So a string that looks
 * like JSON, such as `"12"`, is written with its quotes.
 */
import { parseCsv } from './csv.ts';
import { members, parseObject } from './json-text.ts';

export type Format = 'jsonl' | 'csv';

/** A document of a file, or what is wrong with its line. */
export type Line =
  | { readonly line: number; readonly data: string }
  | { readonly line: number; readonly fault: 'object' | 'cells' | 'quote' };

/** The lines of a file with these documents. */
export function write(format: Format, texts: readonly string[]): string[] {
  // JSON has line breaks only between its parts.
  if (format === 'jsonl') return texts.map((text) => `${text.replace(/[\r\n]+/g, ' ')}\n`);
  const documents = texts.map((text) => new Map(members(text).map((each) => [each.name, each])));
  const names = [...new Set(documents.flatMap((document) => [...document.keys()]))];
  const rows = documents.map((document) =>
    names.map((name) => {
      const member = document.get(name);
      return member ? cell(member.value, member.json) : '';
    }),
  );
  return [names, ...rows].map((row) => `${row.map(quoted).join(',')}\r\n`);
}

/** The documents of a file, in its order. */
export function read(format: Format, text: string): Line[] {
  const plain = text.replace(/^\uFEFF/, '');
  return format === 'jsonl' ? readJson(plain) : readCsv(plain);
}

/** The format of a file by its name. */
export function formatOf(name: string): Format {
  return /\.csv$/i.test(name) ? 'csv' : 'jsonl';
}

function readJson(text: string): Line[] {
  return text.split('\n').flatMap((each, index): Line[] => {
    const data = each.trim();
    if (data === '') return [];
    const line = index + 1;
    return [parseObject(data) ? { line, data } : { line, fault: 'object' }];
  });
}

function readCsv(text: string): Line[] {
  const rows = parseCsv(text);
  if ('unclosed' in rows) return [{ line: rows.unclosed, fault: 'quote' }];
  const [header, ...others] = rows;
  const names = header?.fields.map((name) => JSON.stringify(name.trim())) ?? [];
  return others.map(({ line, fields }) => {
    if (fields.length !== names.length) return { line, fault: 'cells' };
    const parts = fields.flatMap((field, index) =>
      field === '' ? [] : [`${names[index]}:${isJson(field) ? field : JSON.stringify(field)}`],
    );
    return { line, data: `{${parts.join(',')}}` };
  });
}

function cell(value: unknown, json: string): string {
  return typeof value === 'string' && value !== '' && !isJson(value) ? value : json;
}

function quoted(field: string): string {
  return /[",\r\n]|^\s|\s$/.test(field) ? `"${field.replaceAll('"', '""')}"` : field;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
