/** Runs a query: reads a collection page by page, as fast as the caller reads the results. */

import { setImmediate } from 'node:timers/promises';

import { type Value, parseObject } from './json';
import type { Document } from './query/field';
import type { Query } from './query/query';
import { compare } from './query/value';
import type { Store, Stored } from './store';

/** A stored document, which is read when a condition asks for it. */
class Candidate implements Document {
  private read?: Value;

  constructor(
    readonly id: string,
    readonly data: string,
  ) {}

  get value(): Value {
    return (this.read ??= parseObject(this.data));
  }
}

export class Scan {
  constructor(
    private store: Store,
    private collection: string,
    private query: Query,
    private signal: AbortSignal,
  ) {}

  /** The results in their order; those of a summary have no id. */
  async *results(): AsyncGenerator<Stored> {
    const { sort, summary, limit } = this.query;
    if (summary) yield* this.summarized(summary);
    else if (limit === 0) return;
    else if (sort.length > 0) yield* this.sorted();
    else yield* this.inOrder();
  }

  private async *inOrder(): AsyncGenerator<Stored> {
    let { skip, limit } = this.query;
    // Without a condition, the store skips.
    const pages = this.query.filter ? this.pages() : this.store.pages(this.collection, skip);
    if (!this.query.filter) skip = 0;
    for await (const candidate of this.matching(pages)) {
      if (skip-- > 0) continue;
      yield this.projected(candidate);
      if (--limit === 0) return;
    }
  }

  /** Keeps what is sorted by in memory, but not the documents. */
  private async *sorted(): AsyncGenerator<Stored> {
    const { sort, skip, limit } = this.query;
    const found: { id: string; keys: Value[] }[] = [];
    for await (const candidate of this.matching(this.pages())) {
      found.push({ id: candidate.id, keys: sort.map(({ field }) => field.first(candidate)) });
    }
    // Documents that are equal so far are in the order of ids, in the direction of the last field.
    const lastSign = sort.at(-1)?.sign ?? 1;
    found.sort((one, other) => {
      for (const [place, { sign }] of sort.entries()) {
        const order = compare(one.keys[place] ?? null, other.keys[place] ?? null);
        if (order !== 0) return sign * order;
      }
      return lastSign * (one.id < other.id ? -1 : 1);
    });
    const ids = found.slice(skip, skip + limit).map(({ id }) => id);
    // A document may have changed meanwhile.
    const pages = this.store.pagesOf(this.collection, ids);
    for await (const candidate of this.matching(pages)) yield this.projected(candidate);
  }

  private async *summarized(summary: NonNullable<Query['summary']>): AsyncGenerator<Stored> {
    if (summary.counts && !this.query.filter) {
      summary.add({ value: null }, await this.store.count(this.collection));
    } else {
      for await (const candidate of this.matching(this.pages())) summary.add(candidate);
    }
    for (const data of summary.results(this.query.skip, this.query.limit)) yield { id: '', data };
  }

  private pages(): AsyncGenerator<Stored[]> {
    const { ids } = this.query;
    return ids
      ? this.store.pagesOf(this.collection, [...new Set(ids)].sort())
      : this.store.pages(this.collection);
  }

  private async *matching(pages: AsyncGenerator<Stored[]>): AsyncGenerator<Candidate> {
    for await (const page of pages) {
      for (const { id, data } of page) {
        const candidate = new Candidate(id, data);
        if (!this.query.filter || this.query.filter(candidate)) yield candidate;
      }
      // Other calls have their turn, also if nothing matches.
      await setImmediate();
      this.signal.throwIfAborted();
    }
  }

  private projected({ id, data }: Candidate): Stored {
    return { id, data: this.query.project(data) };
  }
}
