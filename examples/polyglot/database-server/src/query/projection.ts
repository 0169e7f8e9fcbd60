/** What of each document a query returns; what is left keeps its text and its order. */

import { type Slice, type Value, slices } from '../json';
import { wrongOperand } from './fault';
import { Field } from './field';

export type Projection = (data: string) => string;

const FAULT = 'an object of fields, either all with 1 (to keep) or all with 0 (to leave out)';

/** Reads `{"a": 1, "b.c": 1}` or `{"a": 0}`; an empty object asks for whole documents. */
export function parseProjection(operand: Value): Projection {
  if (!(operand instanceof Map)) throw wrongOperand('$project', FAULT);
  const kinds = new Set<boolean>();
  const paths: string[][] = [];
  for (const [name, wanted] of operand) {
    const keep = wanted === true || wanted === 1n;
    if (!keep && wanted !== false && wanted !== 0n) throw wrongOperand('$project', FAULT);
    const field = Field.parse(name);
    // The id comes with each result anyway.
    if (field.isId) continue;
    kinds.add(keep);
    paths.push(field.path);
  }
  const [keep, mixed] = [...kinds];
  if (mixed !== undefined) throw wrongOperand('$project', FAULT);
  return keep === undefined ? (data) => data : (data) => project(data, keep, paths);
}

/** Takes of one object what is kept; `paths` begin in it. */
function project(object: string, keep: boolean, paths: string[][]): string {
  const left = (member: Slice): string[] => {
    const below = paths.filter(([first]) => first === member.name).map((path) => path.slice(1));
    const named = below.some((path) => path.length === 0);
    if (!named && below.length > 0 && member.value.startsWith('{')) {
      return [`${member.key}:${project(member.value, keep, below)}`];
    }
    // What is named is kept or left out; what is not, the opposite.
    return named === keep ? [`${member.key}:${member.value}`] : [];
  };
  return `{${slices(object).flatMap(left).join()}}`;
}
