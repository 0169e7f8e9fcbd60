/**
 * The one order of all values: null, numbers, texts, objects, arrays, false and true. Texts are in the order of their code
 * points; arrays are compared element by element, and objects member by member in the order of the names.
 */

import { type Value, toJson } from '../json';

export function compare(one: Value, other: Value): number {
  if (isNumber(one) && isNumber(other)) return one < other ? -1 : one > other ? 1 : 0;
  if (typeof one === 'string' && typeof other === 'string') return compareTexts(one, other);
  if (typeof one === 'boolean' && typeof other === 'boolean') return Number(one) - Number(other);
  if (Array.isArray(one) && Array.isArray(other)) return compareArrays(one, other);
  if (one instanceof Map && other instanceof Map)
    return compareArrays(sorted(one).flat(), sorted(other).flat());
  return rank(one) - rank(other);
}

export function equal(one: Value, other: Value): boolean {
  return compare(one, other) === 0;
}

/** The place of a value's type in the order. */
export function rank(value: Value): number {
  if (value === null) return 0;
  if (isNumber(value)) return 1;
  if (typeof value === 'string') return 2;
  if (value instanceof Map) return 3;
  return Array.isArray(value) ? 4 : 5;
}

export function isNumber(value: Value): value is number | bigint {
  return typeof value === 'number' || typeof value === 'bigint';
}

/** A text that only equal values have. */
export function keyOf(value: Value): string {
  if (Array.isArray(value)) return `[${value.map(keyOf).join()}]`;
  if (value instanceof Map)
    return `{${sorted(value)
      .map(([name, of]) => `${JSON.stringify(name)}:${keyOf(of)}`)
      .join()}}`;
  return toJson(Number.isInteger(value) ? BigInt(value as number) : value);
}

/**
 * The values at a path. It leads through objects by their members, and through arrays by the place of an element (`a.0`)
 * as well as through each element.
 */
export function reach(value: Value, path: string[], from = 0, found: Value[] = []): Value[] {
  const step = path[from];
  if (step === undefined) {
    found.push(value);
  } else if (value instanceof Map) {
    const member = value.get(step);
    if (member !== undefined) reach(member, path, from + 1, found);
  } else if (Array.isArray(value)) {
    const element = /^\d+$/.test(step) ? value[Number(step)] : undefined;
    if (element !== undefined) reach(element, path, from + 1, found);
    for (const each of value) reach(each, path, from, found);
  }
  return found;
}

function compareArrays(one: Value[], other: Value[]): number {
  for (const [place, value] of one.entries()) {
    const against = other[place];
    if (against === undefined) return 1;
    const order = compare(value, against);
    if (order !== 0) return order;
  }
  return one.length - other.length;
}

/** UTF-16 sorts surrogates, which are the greatest code points, before U+E000. */
function compareTexts(one: string, other: string): number {
  const length = Math.min(one.length, other.length);
  let place = 0;
  while (place < length && one.charCodeAt(place) === other.charCodeAt(place)) place++;
  if (place === length) return one.length - other.length;
  const ordered = (unit: number) => (unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit);
  return ordered(one.charCodeAt(place)) - ordered(other.charCodeAt(place));
}

function sorted(members: Map<string, Value>): [string, Value][] {
  return [...members].sort(([one], [other]) => compareTexts(one, other));
}
