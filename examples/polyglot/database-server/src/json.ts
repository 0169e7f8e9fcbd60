/**
 * Reads JSON as documents need it, which `JSON.parse` does not: integers stay exact, faults have their position, and
 * members can be taken as they are written.
 */

/** Integers up to 64 bits are bigints, all other numbers are numbers. */
export type Value = null | boolean | bigint | number | string | Value[] | Members;
/** Of a name that comes twice, the last value counts. */
export type Members = Map<string, Value>;

/** A member of an object, as it is written. */
export interface Slice {
  name: string;
  key: string;
  value: string;
}

export class JsonFault extends Error {
  constructor(
    message: string,
    /** In bytes. */
    readonly offset: number,
  ) {
    super(message);
  }
}

const DEPTH_LIMIT = 128;
const LEAST_INTEGER = -(2n ** 63n);
const GREATEST_INTEGER = 2n ** 64n - 1n;
/** An integer with more digits is not one of 64 bits. */
const INTEGER_LENGTH = 21;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const HEX = /[0-9a-fA-F]{4}/y;
const LITERALS = [null, true, false];

export function parseObject(text: string): Members {
  return new Reader(text).whole((reader) => reader.members(0));
}

/** The members of an object in their order. */
export function slices(text: string): Slice[] {
  const found: Slice[] = [];
  new Reader(text).whole((reader) => {
    reader.object((name, key) => {
      const start = reader.position;
      reader.value(1);
      found.push({ name, key, value: text.slice(start, reader.position) });
    });
  });
  return found;
}

/** The position of an escaped U+0000, in bytes, if there is one. */
export function findNul(text: string): number | undefined {
  const found = /(?<!\\)(?:\\\\)*\\u0000/.exec(text);
  return found
    ? Buffer.byteLength(text.slice(0, found.index + found[0].length - '\\u0000'.length))
    : undefined;
}

export function toJson(value: Value): string {
  if (typeof value === 'bigint') return String(value);
  if (Array.isArray(value)) return `[${value.map(toJson).join()}]`;
  if (value instanceof Map)
    return `{${[...value].map(([name, of]) => `${JSON.stringify(name)}:${toJson(of)}`).join()}}`;
  const text = JSON.stringify(value);
  // What is not an integer does not look like one.
  return typeof value === 'number' && /^-?\d+$/.test(text) ? `${text}.0` : text;
}

class Reader {
  position = 0;

  constructor(private text: string) {}

  /** Reads what must be the whole text. */
  whole<T>(read: (reader: this) => T): T {
    this.space();
    const result = read(this);
    this.space();
    if (this.position < this.text.length) throw this.fault('there is more after its end');
    return result;
  }

  members(depth: number): Members {
    const members: Members = new Map();
    this.object((name) => members.set(name, this.value(depth + 1)));
    return members;
  }

  /** Reads an object; `member` reads each value. */
  object(member: (name: string, key: string) => void): void {
    this.expect('{', 'expected an object');
    this.list('}', () => {
      const start = this.position;
      if (this.text[start] !== '"') throw this.fault('expected a name in quotation marks');
      const name = this.string();
      const key = this.text.slice(start, this.position);
      this.space();
      this.expect(':', 'expected `:`');
      this.space();
      member(name, key);
    });
  }

  value(depth: number): Value {
    if (depth > DEPTH_LIMIT) throw this.fault('it is nested too deeply');
    const first = this.text[this.position];
    if (first === '"') return this.string();
    if (first === '{') return this.members(depth);
    if (first === '[') return this.array(depth);
    for (const value of LITERALS) {
      if (first === String(value)[0]) return this.literal(value);
    }
    return this.number();
  }

  private array(depth: number): Value[] {
    const elements: Value[] = [];
    this.expect('[', 'expected an array');
    this.list(']', () => elements.push(this.value(depth + 1)));
    return elements;
  }

  /** Reads what is separated by commas, and the end. */
  private list(end: string, element: () => void): void {
    this.space();
    if (this.skip(end)) return;
    do {
      this.space();
      element();
      this.space();
    } while (this.skip(','));
    this.expect(end, `expected \`,\` or \`${end}\``);
  }

  private literal<T extends Value>(value: T): T {
    for (const character of String(value)) this.expect(character, `expected \`${value}\``);
    return value;
  }

  private number(): bigint | number {
    const digits = this.match(NUMBER);
    if (digits === undefined) throw this.fault('expected a value');
    const end = this.position + digits.length;
    const value = Number(digits);
    if (!Number.isFinite(value)) throw this.fault('the number is out of range');
    this.position = end;
    if (digits.length >= INTEGER_LENGTH || /[.eE]/.test(digits) || digits === '-0') return value;
    const integer = BigInt(digits);
    return integer < LEAST_INTEGER || integer > GREATEST_INTEGER ? value : integer;
  }

  private string(): string {
    const start = this.position++;
    let escaped = false;
    for (; ; this.position++) {
      const unit = this.text.charCodeAt(this.position);
      if (unit === 0x22) break;
      if (unit < 0x20) throw this.fault('a control character is not escaped');
      if (Number.isNaN(unit)) throw this.fault('the text has no end');
      if (unit !== 0x5c) continue;
      escaped = true;
      this.escape();
    }
    this.position++;
    const inside = this.text.slice(start, this.position);
    return escaped ? (JSON.parse(inside) as string) : inside.slice(1, -1);
  }

  /** Moves from a backslash to the last character of what it begins. */
  private escape(): void {
    this.position++;
    const escape = this.text[this.position];
    if (escape !== 'u') {
      if (escape === undefined || !'"\\/bfnrt'.includes(escape))
        throw this.fault('the escape is not valid');
      return;
    }
    const unit = this.unit();
    if (unit < 0xd800 || unit > 0xdfff) return;
    const paired = unit < 0xdc00 && this.text.startsWith('\\u', this.position + 1);
    if (paired) this.position += 2;
    const second = paired ? this.unit() : 0;
    if (second < 0xdc00 || second > 0xdfff) throw this.fault('a surrogate has no pair');
  }

  /** Reads the digits after `\u`, and stays at the last one. */
  private unit(): number {
    this.position++;
    const digits = this.match(HEX);
    if (digits === undefined) throw this.fault('expected four hexadecimal digits');
    this.position += 3;
    return parseInt(digits, 16);
  }

  private space(): void {
    while (' \t\n\r'.includes(this.text[this.position] ?? 'none')) this.position++;
  }

  private skip(character: string): boolean {
    const found = this.text[this.position] === character;
    if (found) this.position++;
    return found;
  }

  private expect(character: string, message: string): void {
    if (!this.skip(character)) throw this.fault(message);
  }

  private match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.position;
    return pattern.exec(this.text)?.[0];
  }

  private fault(message: string): JsonFault {
    const offset = Buffer.byteLength(this.text.slice(0, this.position));
    const found = this.position < this.text.length ? '' : ', but the text ends';
    return new JsonFault(`at byte ${offset}: ${message}${found}`, offset);
  }
}
