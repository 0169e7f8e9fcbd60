/** Turns what is typed into the filter box into the API's filter, or says that it is not JSON. */

/** A label by its name, or a whole MongoDB-like filter where the text starts with `{`. */
export function toFilter(typed: string): string | null {
  const text = typed.trim();
  if (text === '') return '';
  return text.startsWith('{') ? parseObject(text) && text : JSON.stringify({ label: text });
}

/** The filter for one batch of results; a `$limit` or `$skip` of the user's own stays. */
export function batch(filter: string, limit: number, skip: number): string {
  const own = parseObject(filter) ?? {};
  return JSON.stringify({ $limit: limit, ...(skip > 0 ? { $skip: skip } : {}), ...own });
}

/** The JSON object that `text` holds, or null. */
export function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    const object = typeof value === 'object' && value !== null && !Array.isArray(value);
    return object ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
