/** A field of a document by its dotted name; `_id` is the document's id. */

import type { Value } from '../json';
import { malformed, unknownOperator } from './fault';
import { reach } from './value';

export interface Document {
  /** Missing for an element of an array: there, `_id` is a member. */
  id?: string;
  value: Value;
}

export class Field {
  private constructor(readonly path: string[]) {}

  /** The value itself. */
  static readonly SELF = new Field([]);

  static parse(name: string): Field {
    if (name.startsWith('$')) throw unknownOperator(name);
    const path = name.split('.');
    if (path.some((part) => part === '' || /["\\\0]/.test(part)))
      throw malformed(`\`${name}\` is not a field's name`);
    return new Field(path);
  }

  get isId(): boolean {
    return this.path.length === 1 && this.path[0] === '_id';
  }

  values({ id, value }: Document): Value[] {
    return this.isId && id !== undefined ? [id] : reach(value, this.path);
  }

  /** The value by which documents are sorted. */
  first(document: Document): Value {
    return this.values(document)[0] ?? null;
  }
}
