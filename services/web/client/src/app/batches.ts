/** Cuts what is sent into parts that fit into one call each. */

/** The most characters of a batch: a call may have 4 MiB, and a character may have three bytes. */
const SIZE = 500_000;

/** Batches of at most `most` items and, if more than one, of a limited size. */
export function* batches<T>(
  all: readonly T[],
  sizeOf: (item: T) => number,
  most = Infinity,
): Generator<T[]> {
  let batch: T[] = [];
  let size = 0;
  for (const item of all) {
    const more = sizeOf(item);
    if (batch.length > 0 && (size + more > SIZE || batch.length >= most)) {
      yield batch;
      [batch, size] = [[], 0];
    }
    batch.push(item);
    size += more;
  }
  if (batch.length > 0) yield batch;
}
