/** Turns the text of the filter field into the API's filter, and a filter into queries for parts of its results. */
import { members, parseObject } from './json-text.ts';

const LIMIT = '$limit';
const SKIP = '$skip';
const SORT = '$sort';

/** A label, or a MongoDB-like filter if the text starts with `{`; null if that is not JSON. */
export function toFilter(typed: string): string | null {
  const text = typed.trim();
  if (text === '') return '';
  return text.startsWith('{') ? parseObject(text) && text : JSON.stringify({ label: text });
}

/** An order: the name of a field, after a `-` if it is descending. Ids sort by the time of creation. */
export type Order = string;
export const NEWEST: Order = '-_id';
export const OLDEST: Order = '_id';

/** The orders by the fields of some documents, and by their age. */
export function orders(texts: readonly string[], current: Order): Order[] {
  const names = texts.flatMap((text) => Object.keys(parseObject(text) ?? {}));
  // A name with a dot is a path, and one with a dollar sign an operator.
  const fields = [...new Set([...names, current.replace(/^-/, '')])]
    .filter((name) => /^[^-$.][^.]*$/.test(name) && name !== OLDEST)
    .sort((a, b) => a.localeCompare(b));
  return [NEWEST, OLDEST, ...fields.flatMap((name) => [name, `-${name}`])];
}

/** Whether a filter has an order of its own. */
export function isSorted(filter: string): boolean {
  return own(members(filter), SORT) !== undefined;
}

/** The query for all results: the filter in an order, unless it has one of its own. Its members keep their text. */
export function sorted(filter: string, order: Order): string {
  return `{${[...members(filter).map(({ text }) => text), ...sort(filter, order)].join(',')}}`;
}

/** The member `$sort`; documents with the same value are in the order of their ids. */
function sort(filter: string, order: Order): string[] {
  if (isSorted(filter)) return [];
  const [name, direction] = order.startsWith('-') ? [order.slice(1), -1] : [order, 1];
  const keys = { [name]: direction, ...(name !== OLDEST && { _id: -1 }) };
  return [`"${SORT}":${JSON.stringify(keys)}`];
}

/**
 * The query for the results after the first `loaded` ones, at most `most` of them. A `$limit` or `$skip` of the filter
 * counts for all its results together. All other members keep their text.
 */
export function batch(filter: string, most: number, loaded: number, order: Order): string {
  const all = members(filter);
  const limit = own(all, LIMIT);
  const skip = own(all, SKIP);
  const parts = all
    .filter(({ name }) => !(name === LIMIT && isCount(limit)) && !(name === SKIP && isCount(skip)))
    .map(({ text }) => text);
  // What is not a number is for the database to describe.
  if (isCount(limit)) parts.push(`"${LIMIT}":${Math.min(most, Math.max(0, limit - loaded))}`);
  else if (limit === undefined) parts.push(`"${LIMIT}":${most}`);
  if (isCount(skip)) parts.push(`"${SKIP}":${skip + loaded}`);
  else if (skip === undefined && loaded > 0) parts.push(`"${SKIP}":${loaded}`);
  return `{${[...parts, ...sort(filter, order)].join(',')}}`;
}

/** As in any JSON object, the last member of a name counts. */
function own(all: ReturnType<typeof members>, wanted: string): unknown {
  return all.findLast(({ name }) => name === wanted)?.value;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
