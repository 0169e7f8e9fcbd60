/**
 * The live state of the deployment, from the dashboard's feed.
 *
 *   connecting -> live -> lost -> (growing pause) -> live ...
 */
import { Injectable, computed, effect, inject, signal } from '@angular/core';
import type { Summary } from '../stubs/business_service_pb';
import { Calls, NO_DEADLINE } from './calls';
import { append, type Sample } from './history';
import { Problem } from './problem';
import { Session } from './session';
import { Settings } from './settings';

const INTERVAL = 2_000;
const FIRST_DELAY = 1_000;
const LONGEST_DELAY = 10_000;
const LONGEST_SILENCE = 15_000;
const WEB = 'web-server';

export interface Service {
  readonly name: string;
  /** `unknown` while the web server, which reports it, is unreachable. */
  readonly state: 'serving' | 'down' | 'unknown';
  readonly detail: string;
  readonly milliseconds: number;
}

@Injectable({ providedIn: 'root' })
export class Live {
  private readonly calls = inject(Calls);
  private readonly session = inject(Session);
  private readonly settings = inject(Settings);

  readonly state = signal<'connecting' | 'live' | 'lost'>('connecting');
  readonly summary = signal<Summary | null>(null);
  readonly problem = signal<Problem | null>(null);
  readonly samples = signal<readonly Sample[]>([]);

  readonly services = computed<readonly Service[]>(() => {
    const lost = this.state() === 'lost';
    const known = this.summary()?.backends ?? [];
    return known.map(({ name, serving, detail, milliseconds }) => {
      if (!lost) return { name, state: serving ? 'serving' : 'down', detail, milliseconds };
      return { name, state: name === WEB ? 'down' : 'unknown', detail: '', milliseconds: 0 };
    });
  });

  /** Whether the selected model has not learned anything yet. */
  readonly untrained = computed(() => this.summary()?.modelAccuracy === 0);

  constructor() {
    effect((onCleanup) => {
      const [collection, model] = [this.settings.collection(), this.settings.model()];
      if (!['open', 'in'].includes(this.session.state())) return;
      const stop = new AbortController();
      onCleanup(() => stop.abort());
      void this.follow(collection, model, stop.signal);
    });
  }

  private async follow(collection: string, model: string, stop: AbortSignal): Promise<void> {
    this.state.set('connecting');
    this.problem.set(null);
    this.samples.set([]);
    void this.recall(model, stop);
    let delay = FIRST_DELAY;
    while (!stop.aborted) {
      const failure = await this.stream(collection, model, stop, () => (delay = FIRST_DELAY));
      if (stop.aborted) return;
      this.state.set('lost');
      this.problem.set(failure);
      this.record(null);
      await pause(delay * (0.75 + Math.random() / 2), stop);
      delay = Math.min(delay * 2, LONGEST_DELAY);
    }
  }

  /** Puts the last minutes, which the server has kept, before the samples of the feed. */
  private async recall(modelId: string, signal: AbortSignal): Promise<void> {
    try {
      const { samples } = await this.calls.business.history({ modelId }, { signal });
      const now = Date.now();
      const past = samples.map((kept) =>
        toSample(now - kept.ageMilliseconds, kept, { ...kept.serving }),
      );
      this.samples.update((live) => [
        ...past.filter(({ time }) => time < (live[0]?.time ?? now)),
        ...live,
      ]);
    } catch {
      // The history is optional: without it, the charts begin now. The feed shows the error.
    }
  }

  /** Follows one connection until it ends, and returns the reason. */
  private async stream(
    collection: string,
    modelId: string,
    stop: AbortSignal,
    alive: () => void,
  ): Promise<Problem> {
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), LONGEST_SILENCE);
    try {
      const summaries = this.calls.business.watchSummary(
        { collection, modelId, intervalMilliseconds: INTERVAL },
        { signal: AbortSignal.any([stop, silence.signal]), timeoutMs: NO_DEADLINE },
      );
      for await (const summary of summaries) {
        if (stop.aborted) break;
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), LONGEST_SILENCE);
        this.accept(summary);
        alive();
      }
      return Problem.of(new Error('the feed ended'));
    } catch (error) {
      return Problem.of(error);
    } finally {
      clearTimeout(timer);
    }
  }

  private accept(summary: Summary): void {
    this.summary.set(summary);
    this.problem.set(null);
    this.state.set('live');
    this.record(summary);
  }

  /** Adds a sample; one without values if the feed was lost. */
  private record(summary: Summary | null): void {
    const backends = summary?.backends ?? [];
    const serving = Object.fromEntries(backends.map(({ name, serving }) => [name, serving]));
    const sample = toSample(Date.now(), summary ?? {}, serving);
    this.samples.update((samples) => append(samples, sample));
  }
}

/** A model that has not learned has no accuracy, and without predictions there is no confidence. */
function toSample(
  time: number,
  values: Pick<Partial<Summary>, 'modelAccuracy' | 'predictionsMade' | 'averageConfidence'>,
  serving: Record<string, boolean>,
): Sample {
  return {
    time,
    accuracy: values.modelAccuracy || undefined,
    predictions: values.predictionsMade,
    confidence: values.predictionsMade ? values.averageConfidence : undefined,
    serving,
  };
}

function pause(ms: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    stop.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });
}
