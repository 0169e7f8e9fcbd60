/** The condition of a query, as a function of a document. */

import { RE2JS } from 're2js';

import { type Members, type Value } from '../json';
import { malformed, noTextIndex, unknownOperator, wrongOperand } from './fault';
import { type Document, Field } from './field';
import { compare, equal, isNumber, rank } from './value';

export type Filter = (document: Document) => boolean;
/** Whether the values that a path reaches have what an operator asks for. */
type Test = (found: Value[]) => boolean;

const PATTERN_LIMIT = 1024;
const FLAGS = new Map([
  ['i', RE2JS.CASE_INSENSITIVE],
  ['m', RE2JS.MULTILINE],
  ['s', RE2JS.DOTALL],
]);
/** MongoDB's numbers and names of types. */
const TYPES = new Map<Value, string>([
  [1n, 'double'],
  [2n, 'string'],
  [3n, 'object'],
  [4n, 'array'],
  [8n, 'bool'],
  [10n, 'null'],
  [16n, 'int'],
  [18n, 'long'],
]);
const TYPE_NAMES: Value[] = [...TYPES.values(), 'number'];

export function parseFilter(members: Members, depth: number): Filter {
  return all(conditions([], members, depth));
}

/** Reads an object's members, each a condition of what is below `path`. */
function conditions(path: string[], members: Members, depth: number): Filter[] {
  const below = deeper(depth);
  return [...members].flatMap(([name, value]) => {
    switch (name) {
      case '$and':
        return all(filters(name, value, below));
      case '$or':
        return any(filters(name, value, below));
      case '$nor':
        return not(any(filters(name, value, below)));
      case '$not':
        if (!(value instanceof Map)) throw wrongOperand(name, 'a filter');
        return not(parseFilter(value, below));
      case '$text':
        throw noTextIndex();
      default:
        return field([...path, name], value, below);
    }
  });
}

function filters(operator: string, operand: Value, depth: number): Filter[] {
  if (!Array.isArray(operand) || operand.length === 0) {
    throw wrongOperand(operator, 'an array of at least one filter');
  }
  return operand.map((members) => {
    if (!(members instanceof Map)) throw wrongOperand(operator, 'an array of at least one filter');
    return parseFilter(members, depth);
  });
}

function field(path: string[], value: Value, depth: number): Filter[] {
  const name = path.join('.');
  if (!(value instanceof Map)) return [test(Field.parse(name), equals([value]))];
  const names = [...value.keys()];
  if (names.some((member) => member.startsWith('$')))
    return [operators(Field.parse(name), value, depth)];
  if (names.length === 0)
    throw malformed(`\`${name}\` is compared with an empty object: use \`$eq\`, or \`$exists\``);
  // A nested object means the same as a dotted name.
  const below = deeper(depth);
  return [...value].flatMap(([member, of]) => field([...path, member], of, below));
}

/** Reads an object of operators, all of which must hold for one field. */
function operators(field: Field, members: Members, depth: number): Filter {
  const below = deeper(depth);
  return all([...members].map(([name, operand]) => operator(field, name, operand, members, below)));
}

function operator(
  field: Field,
  name: string,
  operand: Value,
  beside: Members,
  depth: number,
): Filter {
  switch (name) {
    case '$eq':
      return test(field, equals([operand]));
    case '$ne':
      return not(test(field, equals([operand])));
    case '$in':
      return test(field, equals(array(name, operand)));
    case '$nin':
      return not(test(field, equals(array(name, operand))));
    case '$all': {
      const wanted = array(name, operand).map((value) => test(field, equals([value])));
      return wanted.length > 0 ? all(wanted) : () => false;
    }
    case '$gt':
      return test(
        field,
        comparison(name, operand, (order) => order > 0),
      );
    case '$gte':
      return test(
        field,
        comparison(name, operand, (order) => order >= 0),
      );
    case '$lt':
      return test(
        field,
        comparison(name, operand, (order) => order < 0),
      );
    case '$lte':
      return test(
        field,
        comparison(name, operand, (order) => order <= 0),
      );
    case '$exists': {
      if (typeof operand !== 'boolean') throw wrongOperand(name, 'true or false');
      return test(field, (found) => found.length > 0 === operand);
    }
    case '$size': {
      const size = wholeNumber(name, operand);
      return test(field, (found) =>
        found.some((value) => Array.isArray(value) && value.length === size),
      );
    }
    case '$type':
      return test(field, type(name, operand));
    case '$elemMatch': {
      const matches = element(name, operand, depth);
      const some = (value: Value) =>
        Array.isArray(value) && value.some((each) => matches({ value: each }));
      return test(field, (found) => found.some(some));
    }
    case '$regex':
      return test(field, pattern(operand, beside.get('$options')));
    case '$options':
      if (!beside.has('$regex')) throw wrongOperand(name, 'a `$regex` beside it');
      return () => true;
    case '$not':
      if (!(operand instanceof Map) || operand.size === 0)
        throw wrongOperand(name, 'an object of operators');
      return not(operators(field, operand, depth));
    case '$text':
      throw wrongOperand(name, 'no field: it belongs to the top level of the query');
    default:
      throw unknownOperator(name);
  }
}

function test(field: Field, holds: Test): Filter {
  return (document) => holds(field.values(document));
}

/** A test that an array passes if it does itself, or one of its elements. */
function ofEach(holds: (value: Value) => boolean): Test {
  return (found) =>
    found.some((value) => holds(value) || (Array.isArray(value) && value.some(holds)));
}

function equals(wanted: Value[]): Test {
  const some = ofEach((value) => wanted.some((each) => equal(value, each)));
  return (found) => (found.length > 0 ? some(found) : wanted.includes(null));
}

function comparison(operator: string, operand: Value, holds: (order: number) => boolean): Test {
  if (!isNumber(operand) && typeof operand !== 'string')
    throw wrongOperand(operator, 'a number or a string');
  return ofEach((value) => rank(value) === rank(operand) && holds(compare(value, operand)));
}

function type(operator: string, operand: Value): Test {
  const wanted = (Array.isArray(operand) ? operand : [operand]).map(
    (each) => TYPES.get(each) ?? each,
  );
  if (wanted.length === 0 || !wanted.every((each) => TYPE_NAMES.includes(each))) {
    throw wrongOperand(operator, `one or more of ${TYPE_NAMES.join(', ')}`);
  }
  return ofEach(
    (value) => wanted.includes(typeOf(value)) || (isNumber(value) && wanted.includes('number')),
  );
}

function typeOf(value: Value): string {
  if (typeof value === 'bigint') {
    if (BigInt.asIntN(32, value) === value) return 'int';
    return BigInt.asIntN(64, value) === value ? 'long' : 'double';
  }
  if (typeof value === 'number') return 'double';
  if (typeof value === 'boolean') return 'bool';
  if (typeof value === 'string') return 'string';
  if (value === null) return 'null';
  return Array.isArray(value) ? 'array' : 'object';
}

/** RE2's syntax is that of the Rust service, but for rare cases; both take linear time. */
function pattern(operand: Value, options: Value = ''): Test {
  if (typeof options !== 'string' || !/^[imsx]*$/.test(options)) {
    throw wrongOperand('$options', 'some of the letters `imsx`');
  }
  if (
    typeof operand !== 'string' ||
    Buffer.byteLength(operand) > PATTERN_LIMIT ||
    operand.includes('\0')
  ) {
    throw wrongOperand('$regex', `a string of at most ${PATTERN_LIMIT} bytes`);
  }
  const flags = [...options].reduce((sum, option) => sum | (FLAGS.get(option) ?? 0), 0);
  const compiled = compile(options.includes('x') ? withoutSpace(operand) : operand, flags);
  return ofEach((value) => typeof value === 'string' && compiled.matcher(value).find());
}

function compile(text: string, flags: number): RE2JS {
  try {
    return RE2JS.compile(text, flags);
  } catch (error) {
    throw wrongOperand('$regex', `a regular expression: ${(error as Error).message}`);
  }
}

/** What `x` ignores: white space and comments, if they are not escaped. */
function withoutSpace(pattern: string): string {
  return pattern.replace(/(\\[^])|#.*|\s/g, '$1');
}

/** What an element of an array must match: operators, or a filter of its members. */
function element(operator: string, operand: Value, depth: number): Filter {
  if (!(operand instanceof Map))
    throw wrongOperand(operator, 'a filter, or an object of operators');
  const ofFilters = ['$and', '$or', '$nor'];
  if ([...operand.keys()].some((name) => name.startsWith('$') && !ofFilters.includes(name))) {
    return operators(Field.SELF, operand, depth);
  }
  const matches = parseFilter(operand, depth);
  return (document) => document.value instanceof Map && matches(document);
}

function array(operator: string, operand: Value): Value[] {
  if (!Array.isArray(operand)) throw wrongOperand(operator, 'an array of values');
  return operand;
}

export function wholeNumber(operator: string, operand: Value): number {
  if (typeof operand !== 'bigint' || operand < 0n || operand > Number.MAX_SAFE_INTEGER) {
    throw wrongOperand(operator, 'a whole number from 0');
  }
  return Number(operand);
}

function deeper(depth: number): number {
  if (depth === 0) throw malformed('the query is nested too deeply');
  return depth - 1;
}

function all(filters: Filter[]): Filter {
  return (document) => filters.every((filter) => filter(document));
}

function any(filters: Filter[]): Filter {
  return (document) => filters.some((filter) => filter(document));
}

function not(filter: Filter): Filter {
  return (document) => !filter(document);
}
