/**
 * The results of a query as they stream in. What fails in passing is asked again by itself, with growing pauses, and
 * what was found before stays in view meanwhile.
 */
import { DestroyRef, Injectable, inject, signal } from '@angular/core';
import { Calls, NO_DEADLINE } from './calls';
import { batch } from './filter';
import { Problem } from './problem';
import type { StoredDocument } from './stored';

/** How many results one query asks for; more are a button away. */
const BATCH = 10_000;
/** Between two updates of the list while results come. */
const FRAME = 100;
const FIRST_RETRY = 2_000;
const LONGEST_RETRY = 15_000;

@Injectable()
export class Found {
  readonly documents = signal<readonly StoredDocument[]>([]);
  readonly busy = signal(true);
  readonly more = signal(false);
  readonly problem = signal<Problem | null>(null);
  private readonly calls = inject(Calls);
  private collection = '';
  private filter = '';
  private stop = new AbortController();

  constructor() {
    inject(DestroyRef).onDestroy(() => this.stop.abort());
  }

  /** Asks anew; results of an earlier question are forgotten. */
  ask(collection: string, filter: string): void {
    [this.collection, this.filter] = [collection, filter];
    this.documents.set([]);
    this.start([]);
  }

  /** Asks the same again; what is shown stays until the first results come. */
  again(): void {
    this.start([]);
  }

  /** Asks for the results after those that are shown. */
  next(): void {
    this.start(this.documents());
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
        if (!problem.passing) break;
        await new Promise((resolve) => setTimeout(resolve, delay));
      }
      if (stop.aborted) return;
    }
    if (!stop.aborted) this.busy.set(false);
  }

  private async stream(before: readonly StoredDocument[], signal: AbortSignal): Promise<void> {
    // One more than is shown tells whether there are more.
    const query = batch(this.filter, BATCH + 1, before.length);
    const results = this.calls.documents.query(
      { collection: this.collection, query },
      { signal, timeoutMs: NO_DEADLINE },
    );
    const found = [...before];
    let shown = performance.now();
    for await (const { id, data } of results) {
      found.push({ id, data });
      if (performance.now() - shown < FRAME) continue;
      this.show(found);
      // Lets the page draw, and the user act, between two updates.
      await new Promise((resolve) => setTimeout(resolve));
      if (signal.aborted) return;
      shown = performance.now();
    }
    if (signal.aborted) return;
    const more = found.length - before.length > BATCH;
    if (more) found.pop();
    this.show(found);
    this.more.set(more);
  }

  private show(found: readonly StoredDocument[]): void {
    this.problem.set(null);
    this.documents.set([...found]);
  }
}
