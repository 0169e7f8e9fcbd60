/**
 * JSON as its text. JavaScript's own numbers and objects do not keep digits, spelling and order, so the page never
 * writes what it parsed: it checks texts, and cuts members out of them.
 */

/** One member of an object: its name, and its text, such as `"a": 1.10`. */
export interface Member {
  readonly name: string;
  readonly text: string;
  /** The text of its value, such as `1.10`. */
  readonly json: string;
  readonly value: unknown;
}

/** The JSON object in `text`, or null; for reading only. */
export function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    const object = typeof value === 'object' && value !== null && !Array.isArray(value);
    return object ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** The members of an object in the order of its text; a name that comes twice is in it twice. */
export function members(text: string): Member[] {
  if (!parseObject(text)) return [];
  const inner = text.slice(text.indexOf('{') + 1, text.lastIndexOf('}'));
  return split(inner, ',').map((member) => {
    const [name = '', ...value] = split(member, ':');
    const json = value.join(':').trim();
    return {
      name: JSON.parse(name) as string,
      text: member.trim(),
      json,
      value: JSON.parse(json) as unknown,
    };
  });
}

/** The same text, with each member and element in a line of its own. */
export function indent(text: string): string {
  let result = '';
  let depth = 0;
  const line = (): string => `\n${'  '.repeat(depth)}`;
  const all = tokens(text);
  all.forEach((token, index) => {
    const before = all[index - 1] ?? '';
    if ('}]'.includes(token)) {
      depth -= 1;
      if (!'{['.includes(before)) result += line();
    } else if (before !== '' && '{[,'.includes(before)) result += line();
    result += token === ':' ? ': ' : token;
    if ('{['.includes(token)) depth += 1;
  });
  return result;
}

/** The strings, numbers, words and signs of valid JSON. */
function tokens(text: string): string[] {
  return text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g) ?? [];
}

/** Splits valid JSON at a sign that is outside of all strings, objects and arrays. */
function split(text: string, sign: string): string[] {
  const parts: string[] = [];
  let [depth, from, at] = [0, 0, 0];
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[^"]/g)) {
    if (token === '{' || token === '[') depth += 1;
    else if (token === '}' || token === ']') depth -= 1;
    else if (token === sign && depth === 0) {
      parts.push(text.slice(from, at));
      from = at + 1;
    }
    at += token.length;
  }
  if (parts.length > 0 || text.trim() !== '') parts.push(text.slice(from));
  return parts;
}
