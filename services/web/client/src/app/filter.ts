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

/**
 * The query for the results after the first `loaded` ones, at most `most` of them. A `$limit` or `$skip` of the filter
 * counts for all its results together. All other members keep their text. Without a `$sort`, the newest come first: ids
 * sort by the time of creation.
 */
export function batch(filter: string, most: number, loaded: number): string {
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
  if (own(all, SORT) === undefined) parts.push(`"${SORT}":{"_id":-1}`);
  return `{${parts.join(',')}}`;
}

/** As in any JSON object, the last member of a name counts. */
function own(all: ReturnType<typeof members>, wanted: string): unknown {
  return all.findLast(({ name }) => name === wanted)?.value;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
