/** A query's text, read to what it asks for: see docs/database.md. */

import { JsonFault, type Members, type Value, parseObject } from '../json';
import { malformed, wrongOperand } from './fault';
import { Field } from './field';
import { type Filter, parseFilter, wholeNumber } from './filter';
import { type Projection, parseProjection } from './projection';
import { type Summary, takeSummary } from './summary';

/** Bounds what one query's text can cost. */
const QUERY_LIMIT = 64 * 1024;
const DEPTH_LIMIT = 32;
const SORT_LIMIT = 32;

export interface Query {
  /** Missing if all documents match. */
  filter?: Filter;
  /** The only ids that can match, if the filter says so. */
  ids?: string[];
  /** In order of priority; an empty list means the order of ids. */
  sort: SortField[];
  skip: number;
  limit: number;
  project: Projection;
  summary?: Summary;
}

export interface SortField {
  field: Field;
  sign: 1 | -1;
}

/** Reads a query's text; an empty one asks for everything. */
export function parseQuery(text: string): Query {
  const members = text.trim() === '' ? new Map() : parse(text);
  const take = <T>(
    name: string,
    read: (operator: string, operand: Value) => T,
    otherwise: T,
  ): T => {
    const operand = members.get(name);
    members.delete(name);
    return operand === undefined ? otherwise : read(name, operand);
  };
  const limit = take('$limit', wholeNumber, Infinity);
  const skip = take('$skip', wholeNumber, 0);
  const project = take('$project', (_, operand) => parseProjection(operand), undefined);
  const sort = take('$sort', (_, operand) => parseSort(operand), []);
  const summary = takeSummary(members);
  if (summary && (project || sort.length > 0)) {
    const operator = project ? '$project' : '$sort';
    throw wrongOperand(
      operator,
      'documents, and cannot be combined with `$count`, `$distinct` and `$group`',
    );
  }
  const filter = members.size > 0 ? parseFilter(members, DEPTH_LIMIT) : undefined;
  return {
    filter,
    ids: idsOf(members.get('_id')),
    sort,
    skip,
    limit,
    project: project ?? ((data) => data),
    summary,
  };
}

function parse(text: string): Members {
  const length = Buffer.byteLength(text);
  if (length > QUERY_LIMIT)
    throw malformed(`the query has ${length} bytes, more than ${QUERY_LIMIT}`);
  try {
    return parseObject(text);
  } catch (error) {
    if (!(error instanceof JsonFault)) throw error;
    throw malformed(`the query is not a JSON object, ${error.message}`, { offset: error.offset });
  }
}

function parseSort(operand: Value): SortField[] {
  if (!(operand instanceof Map)) throw wrongOperand('$sort', 'an object of fields');
  if (operand.size > SORT_LIMIT) throw wrongOperand('$sort', `at most ${SORT_LIMIT} fields`);
  return [...operand].map(([name, direction]) => {
    if (direction !== 1n && direction !== -1n) {
      throw wrongOperand(
        '$sort',
        'an object of fields, each with 1 (ascending) or -1 (descending)',
      );
    }
    return { field: Field.parse(name), sign: direction === 1n ? 1 : -1 };
  });
}

/** The ids that a condition of `_id` allows, if it names them. */
function idsOf(condition: Value | undefined): string[] | undefined {
  if (!(condition instanceof Map)) return condition === undefined ? undefined : texts([condition]);
  const wanted = condition.get('$in') ?? [condition.get('$eq') ?? null];
  return condition.has('$in') || condition.has('$eq') ? texts(wanted as Value[]) : undefined;
}

function texts(values: Value[]): string[] {
  return values.filter((value) => typeof value === 'string');
}
