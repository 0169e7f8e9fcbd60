/** Turns the text of the filter field into the API's filter, or reports that it is not JSON. */

/** A label, or a MongoDB-like filter if the text starts with `{`. */
export function toFilter(typed: string): string | null {
  const text = typed.trim();
  if (text === '') return '';
  return text.startsWith('{') ? parseObject(text) && text : JSON.stringify({ label: text });
}

/** The filter for one batch of results; keeps the user's own `$limit` or `$skip`. */
export function batch(filter: string, limit: number, skip: number): string {
  const own = parseObject(filter) ?? {};
  return JSON.stringify({ $limit: limit, ...(skip > 0 ? { $skip: skip } : {}), ...own });
}

/** The JSON object in `text`, or null. */
export function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    const object = typeof value === 'object' && value !== null && !Array.isArray(value);
    return object ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
