/**
 * The live state of the deployment, from the summary stream.
 *
 *   connecting -> live -> lost -> (backoff, status asked once) -> connecting ...
 *
 * While the stream is lost, the status call still tells which backends serve.
 */
import { Injectable, computed, effect, inject, signal } from '@angular/core';
import { Api, Problem, type Backend, type Summary } from './api';
import { Settings } from './settings';
import { readEvents } from './sse';

const FIRST_DELAY = 1_000;
const LONGEST_DELAY = 15_000;
const LONGEST_SILENCE = 20_000;
const WEB = 'web-server';

@Injectable({ providedIn: 'root' })
export class Live {
  private readonly api = inject(Api);
  private readonly settings = inject(Settings);
  private readonly known = signal<readonly Backend[]>([]);

  readonly state = signal<'connecting' | 'live' | 'lost'>('connecting');
  readonly summary = signal<Summary | null>(null);
  readonly problem = signal<Problem | null>(null);

  /** Every service; the web server speaks for itself by answering. */
  readonly services = computed<readonly Backend[]>(() => {
    const known = this.known();
    if (known.length === 0 || known.some(({ name }) => name === WEB)) return known;
    return [...known, { name: WEB, serving: this.problem()?.status !== 0 }];
  });

  constructor() {
    effect((onCleanup) => {
      const stop = new AbortController();
      onCleanup(() => stop.abort());
      const [collection, model] = [this.settings.collection(), this.settings.model()];
      void this.follow(collection, model, stop.signal);
    });
  }

  private async follow(collection: string, model: string, stop: AbortSignal): Promise<void> {
    this.state.set('connecting');
    this.summary.set(null);
    this.problem.set(null);
    let delay = FIRST_DELAY;
    while (!stop.aborted) {
      const failure = await this.stream(collection, model, stop, () => (delay = FIRST_DELAY));
      if (stop.aborted) return;
      this.state.set('lost');
      this.problem.set(failure);
      await this.askStatus(stop);
      await pause(delay * (0.75 + Math.random() / 2), stop);
      delay = Math.min(delay * 2, LONGEST_DELAY);
    }
  }

  /** Follows one connection to its end and returns why it ended. */
  private async stream(
    collection: string,
    model: string,
    stop: AbortSignal,
    alive: () => void,
  ): Promise<Problem> {
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), LONGEST_SILENCE);
    try {
      const signal = AbortSignal.any([stop, silence.signal]);
      const response = await this.api.summary(collection, model, signal);
      if (!response.body) return Problem.of('no body');
      for await (const data of readEvents(response.body)) {
        if (stop.aborted) break;
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), LONGEST_SILENCE);
        this.accept(JSON.parse(data) as Summary);
        alive();
      }
      return new Problem(0, '', '', '', '');
    } catch (error) {
      return Problem.of(error);
    } finally {
      clearTimeout(timer);
    }
  }

  private accept(summary: Summary): void {
    this.summary.set(summary);
    this.known.set(summary.backends);
    this.problem.set(null);
    this.state.set('live');
  }

  private async askStatus(stop: AbortSignal): Promise<void> {
    try {
      this.known.set((await this.api.status(stop)).backends);
    } catch {
      // The stream's own failure is already shown; what served is no longer known.
      if (!stop.aborted) {
        this.known.update((all) => all.map(({ name }) => ({ name, serving: false })));
      }
    }
  }
}

function pause(ms: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    stop.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });
}
