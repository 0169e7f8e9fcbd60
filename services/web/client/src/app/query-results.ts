/**
 * The results of a query, as they arrive. After a transient error the query is repeated with growing pauses; the
 * previous results stay visible meanwhile.
 */
import { DestroyRef, Injectable, inject, signal } from '@angular/core';
import { Calls, NO_DEADLINE } from './calls';
import { batch, NEWEST, type Order } from './filter';
import { Problem } from './problem';
import type { StoredDocument } from './stored';

/** The number of results of one query; a button loads more. */
const BATCH = 10_000;
/** Between two updates of the list while results arrive. */
const FRAME = 100;
const FIRST_RETRY = 2_000;
const LONGEST_RETRY = 15_000;

@Injectable()
export class QueryResults {
  readonly documents = signal<readonly StoredDocument[]>([]);
  readonly busy = signal(true);
  readonly more = signal(false);
  readonly problem = signal<Problem | null>(null);
  private readonly calls = inject(Calls);
  private collection = '';
  private filter = '';
  private order = NEWEST;
  /** How many of the query's results are loaded. */
  private loaded = 0;
  /** Shown in addition to the loaded results. */
  private readonly added = new Set<string>();
  private stop = new AbortController();

  constructor() {
    inject(DestroyRef).onDestroy(() => this.stop.abort());
  }

  /** Runs a new query, and drops the results of the previous one. */
  run(collection: string, filter: string, order: Order): void {
    [this.collection, this.filter, this.order] = [collection, filter, order];
    this.documents.set([]);
    this.reload();
  }

  /** Shows nothing: there is no query. */
  clear(): void {
    this.stop.abort();
    this.documents.set([]);
    this.more.set(false);
    this.problem.set(null);
    this.busy.set(false);
  }

  /** Repeats the query; the previous results stay until the first new ones arrive. */
  reload(): void {
    this.loaded = 0;
    this.added.clear();
    this.start([]);
  }

  /** Loads the results after the loaded ones. */
  loadMore(): void {
    this.start(this.documents());
  }

  /** Shows a new document before the others. */
  add(document: StoredDocument): void {
    this.added.add(document.id);
    this.documents.update((all) => [document, ...all]);
  }

  /** Shows the new data of a document. */
  replace(document: StoredDocument): void {
    this.documents.update((all) =>
      all.map((other) => (other.id === document.id ? document : other)),
    );
  }

  /** Drops a document that was deleted. */
  remove(id: string): void {
    this.documents.update((all) => all.filter((document) => document.id !== id));
    if (!this.added.delete(id)) this.loaded -= 1;
  }

  private start(before: readonly StoredDocument[]): void {
    this.stop.abort();
    this.stop = new AbortController();
    void this.follow(before, this.stop.signal);
  }

  private async follow(before: readonly StoredDocument[], stop: AbortSignal): Promise<void> {
    this.busy.set(true);
    this.more.set(false);
    for (let delay = FIRST_RETRY; ; delay = Math.min(delay * 2, LONGEST_RETRY)) {
      try {
        await this.stream(before, stop);
        break;
      } catch (error) {
        if (stop.aborted) return;
        const problem = Problem.of(error);
        this.problem.set(problem);
        if (!problem.transient) break;
        await new Promise((resolve) => setTimeout(resolve, delay));
      }
      if (stop.aborted) return;
    }
    if (!stop.aborted) this.busy.set(false);
  }

  private async stream(before: readonly StoredDocument[], signal: AbortSignal): Promise<void> {
    // One extra result shows whether there are more.
    const query = batch(this.filter, BATCH + 1, this.loaded, this.order);
    const results = this.calls.documents.query(
      { collection: this.collection, query },
      { signal, timeoutMs: NO_DEADLINE },
    );
    const found = [...before];
    let shown = performance.now();
    let came = 0;
    for await (const { id, data } of results) {
      came += 1;
      if (came > BATCH) break;
      if (!this.added.has(id)) found.push({ id, data });
      if (performance.now() - shown < FRAME) continue;
      this.show(found);
      // Lets the page draw and react to the user between two updates.
      await new Promise((resolve) => setTimeout(resolve));
      if (signal.aborted) return;
      shown = performance.now();
    }
    if (signal.aborted) return;
    this.loaded += Math.min(came, BATCH);
    this.show(found);
    this.more.set(came > BATCH);
  }

  private show(found: readonly StoredDocument[]): void {
    this.problem.set(null);
    this.documents.set([...found]);
  }
}
