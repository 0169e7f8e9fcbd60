/** Checks training data before it is sent: the header `text,label`, and both in each row; ignores further columns. */

export type CsvCheck =
  | { readonly ok: true; readonly examples: number; readonly labels: number }
  | {
      readonly ok: false;
      readonly reason: 'header' | 'row' | 'quote' | 'few';
      readonly line: number;
    };

interface Row {
  readonly line: number;
  readonly fields: readonly string[];
}

/** Splits RFC 4180 text into rows, or returns the line of a quote that is not closed. */
export function parseCsv(text: string): Row[] | { readonly unclosed: number } {
  const rows: Row[] = [];
  let fields: string[] = [];
  let field = '';
  let line = 1;
  let start = 1;
  let quotedAt = 0;
  const endRow = (): void => {
    fields.push(field);
    if (fields.length > 1 || field.trim() !== '') rows.push({ line: start, fields });
    fields = [];
    field = '';
  };
  for (let i = 0; i < text.length; i++) {
    const c = text.charAt(i);
    if (c === '\n') line++;
    if (quotedAt) {
      if (c !== '"') field += c;
      else if (text.charAt(i + 1) === '"') field += text.charAt(++i);
      else quotedAt = 0;
    } else if (c === '"' && field === '') {
      quotedAt = line;
    } else if (c === ',') {
      fields.push(field);
      field = '';
    } else if (c === '\n') {
      endRow();
      start = line;
    } else if (c !== '\r') {
      field += c;
    }
  }
  if (quotedAt) return { unclosed: quotedAt };
  endRow();
  return rows;
}

/** Checks whether `text` can train a model, which needs at least two labels. */
export function checkCsv(text: string): CsvCheck {
  const rows = parseCsv(text.replace(/^\uFEFF/, ''));
  if ('unclosed' in rows) return { ok: false, reason: 'quote', line: rows.unclosed };
  const [header, ...examples] = rows;
  const names = header?.fields.map((name) => name.trim().toLowerCase()).join();
  if (names !== 'text,label' && !names?.startsWith('text,label,'))
    return { ok: false, reason: 'header', line: header?.line ?? 1 };
  const bad = examples.find(
    ({ fields }) =>
      !fields[0]?.trim() || !fields[1]?.trim() || fields.length !== header?.fields.length,
  );
  if (bad) return { ok: false, reason: 'row', line: bad.line };
  const labels = new Set(examples.map(({ fields }) => fields[1]?.trim())).size;
  if (labels < 2) return { ok: false, reason: 'few', line: header?.line ?? 1 };
  return { ok: true, examples: examples.length, labels };
}

export interface Example {
  readonly text: string;
  readonly label: string;
}

/** The examples of a text that `checkCsv` accepted. */
export function examples(text: string): readonly Example[] {
  const rows = parseCsv(text.replace(/^\uFEFF/, ''));
  if ('unclosed' in rows) return [];
  return rows
    .slice(1)
    .map(({ fields }) => ({ text: fields[0] ?? '', label: (fields[1] ?? '').trim() }));
}
