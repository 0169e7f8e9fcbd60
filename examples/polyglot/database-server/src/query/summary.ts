/** What a query returns instead of documents: their number, the distinct values of a field, or figures of groups. */

import { type Members, type Value, toJson } from '../json';
import { Problem } from '../problem';
import { unknownOperator, wrongOperand } from './fault';
import { type Document, Field } from './field';
import { compare, isNumber, keyOf } from './value';

/** Takes documents one by one, and then has the results. */
export interface Summary {
  /** Whether only the number of documents matters. */
  counts: boolean;
  add(document: Document, times?: number): void;
  results(skip: number, limit: number): string[];
}

type Operand = (document: Document) => Value;

/** A figure of a group. */
interface Figure {
  add(value: Value): void;
  result(): Value;
}

/** Groups are kept in memory. */
const MOST_GROUPS = 100_000;

/** Takes the member of a query that asks for a summary, if there is one. */
export function takeSummary(query: Members): Summary | undefined {
  const parsers = { $count: count, $distinct: distinct, $group: group };
  const found = Object.entries(parsers).flatMap(([name, parse]) => {
    const operand = query.get(name);
    query.delete(name);
    return operand === undefined ? [] : [parse(operand)];
  });
  if (found.length > 1) throw wrongOperand('$group', 'no other summary in the same query');
  return found[0];
}

function count(operand: Value): Summary {
  const name = operand === true ? 'count' : operand;
  if (typeof name !== 'string' || name === '')
    throw wrongOperand('$count', 'true, or a name for the number');
  let number = 0;
  return {
    counts: true,
    add: (_document, times = 1) => (number += times),
    results: (skip, limit) => [
      JSON.stringify({ [name]: Math.min(Math.max(number - skip, 0), limit) }),
    ],
  };
}

function distinct(operand: Value): Summary {
  if (typeof operand !== 'string') throw wrongOperand('$distinct', 'the name of a field');
  const field = Field.parse(operand);
  const groups = new Groups<null>(() => null);
  return {
    counts: false,
    add: (document) =>
      field
        .values(document)
        .flat()
        .forEach((value) => groups.of(value)),
    results: (skip, limit) =>
      groups.sorted(skip, limit).map(([value]) => `{"value":${toJson(value)}}`),
  };
}

function group(operand: Value): Summary {
  if (!(operand instanceof Map) || !operand.has('_id'))
    throw wrongOperand('$group', 'an object with `_id`');
  const key = parseKey(operand.get('_id') ?? null);
  const figures = [...operand]
    .filter(([name]) => name !== '_id')
    .map(([name, of]) => parseFigure(name, of));
  const groups = new Groups(() => figures.map(({ make }) => make()));
  return {
    counts: false,
    add: (document) => {
      const totals = groups.of(key(document));
      figures.forEach(({ operand }, place) => totals[place]?.add(operand(document)));
    },
    results: (skip, limit) =>
      groups.sorted(skip, limit).map(([value, totals]) => {
        const members: Members = new Map([['_id', value]]);
        figures.forEach(({ name }, place) => members.set(name, totals[place]?.result() ?? null));
        return toJson(members);
      }),
  };
}

/** What there is for each different value. */
class Groups<T> {
  private groups = new Map<string, [Value, T]>();

  constructor(private make: () => T) {}

  of(value: Value): T {
    const key = keyOf(value);
    const existing = this.groups.get(key);
    if (existing) return existing[1];
    if (this.groups.size === MOST_GROUPS) {
      const message = `there are more than ${MOST_GROUPS} groups`;
      throw Problem.invalid('query', 'STORE_REFUSED', message);
    }
    const made = this.make();
    this.groups.set(key, [value, made]);
    return made;
  }

  sorted(skip: number, limit: number): [Value, T][] {
    const groups = [...this.groups.values()].sort(([one], [other]) => compare(one, other));
    return groups.slice(skip, skip + limit);
  }
}

/** What the documents of a group have in common: a field, a constant, or an object of them. */
function parseKey(operand: Value): Operand {
  if (!(operand instanceof Map)) return parseOperand('_id', operand);
  const members = [...operand].map(([name, of]) => [name, parseOperand(name, of)] as const);
  return (document) => new Map(members.map(([name, of]) => [name, of(document)]));
}

function parseOperand(operator: string, operand: Value): Operand {
  if (typeof operand === 'string' && operand.startsWith('$')) {
    const field = Field.parse(operand.slice(1));
    return (document) => field.first(document);
  }
  if (operand === null || isNumber(operand)) return () => operand;
  throw wrongOperand(operator, 'a field as `$name`, or a number');
}

function parseFigure(
  name: string,
  figure: Value,
): { name: string; operand: Operand; make: () => Figure } {
  const [only, ...more] = figure instanceof Map ? [...figure] : [];
  if (!only || more.length > 0)
    throw wrongOperand('$group', 'an object with figures, such as `{"$sum": 1}`');
  const [operator, of] = only;
  if (operator === '$count') return { name, operand: () => 1n, make: sum };
  const make = FIGURES[operator];
  if (!make) throw unknownOperator(operator);
  return { name, operand: parseOperand(operator, of), make };
}

const FIGURES: Record<string, () => Figure> = {
  $sum: sum,
  $avg: average,
  $min: () => extreme((order) => order < 0),
  $max: () => extreme((order) => order > 0),
};

/** Integers are added exactly. */
function sum(): Figure {
  let integers = 0n;
  let reals: number | undefined;
  return {
    add: (value) => {
      if (typeof value === 'bigint') integers += value;
      if (typeof value === 'number') reals = (reals ?? 0) + value;
    },
    result: () => (reals === undefined ? integers : Number(integers) + reals),
  };
}

function average(): Figure {
  const total = sum();
  let numbers = 0;
  return {
    add: (value) => {
      total.add(value);
      if (isNumber(value)) numbers += 1;
    },
    result: () => (numbers === 0 ? null : Number(total.result()) / numbers),
  };
}

function extreme(better: (order: number) => boolean): Figure {
  let found: Value = null;
  return {
    add: (value) => {
      if (value !== null && (found === null || better(compare(value, found)))) found = value;
    },
    result: () => found,
  };
}
