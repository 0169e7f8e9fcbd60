/** Teaches the model, from a CSV file, pasted examples, or what is stored. */
import { Component, computed, inject, signal } from '@angular/core';
import type { LearnProgress, TrainResponse } from '../../stubs/business_service_pb';
import { Calls, NO_DEADLINE } from '../calls';
import { batches, checkCsv, examples } from '../csv';
import { ProblemNote } from '../parts/problem';
import { Problem } from '../problem';
import { Settings } from '../settings';
import { Speech } from '../speech';

/** Longer texts are kept out of the text field, which would become slow. */
const EDITABLE = 100_000;

@Component({
  imports: [ProblemNote],
  template: `
    <div>
      <h1>{{ say('nav.learn') }}</h1>
      <p class="lead">{{ say('learn.lead', { model: settings.model() }) }}</p>
    </div>

    <div class="columns">
      <form class="card stack" (submit)="$event.preventDefault(); learnFromCsv()">
        <h2>{{ say('learn.csv') }}</h2>
        <label class="file">
          <input type="file" accept=".csv,text/csv" name="file" (change)="load($event)" />
          <span class="button">{{ say('learn.file') }}</span>
          <span class="quiet">{{ fileName() }}</span>
        </label>
        @if (editable()) {
          <label class="field">
            <span>{{ say('learn.paste') }}</span>
            <textarea
              name="csv"
              rows="8"
              spellcheck="false"
              class="code"
              aria-describedby="csv-hint csv-check"
              placeholder="text,label"
              [value]="csv()"
              (input)="csv.set($any($event.target).value)"
            ></textarea>
          </label>
          <p class="quiet" id="csv-hint">{{ say('learn.hint', { header: 'text,label' }) }}</p>
        }
        <div class="actions">
          <button class="primary" name="train" type="submit" [disabled]="busy() || !check()?.ok">
            {{ say('learn.train') }}
          </button>
          <span id="csv-check" role="status" [class.wrong]="check()?.ok === false">{{
            checkText()
          }}</span>
        </div>
      </form>

      <div class="stack">
        <section class="card stack" aria-labelledby="stored">
          <h2 id="stored">{{ say('learn.stored') }}</h2>
          <p>{{ say('learn.storedbody', { collection: settings.collection() }) }}</p>
          <div class="actions">
            <button type="button" name="train-from" [disabled]="busy()" (click)="learnFromStored()">
              {{ say('learn.trainstored') }}
            </button>
          </div>
        </section>

        @if (busy()) {
          <div class="card stack">
            <label for="progress">{{ progressText() }}</label>
            @if (total(); as most) {
              <progress id="progress" [max]="most" [value]="learned()"></progress>
            } @else {
              <progress id="progress"></progress>
            }
            <div class="actions">
              <button type="button" name="stop" (click)="stop.abort()">
                {{ say('learn.stop') }}
              </button>
            </div>
          </div>
        }
        <div class="outcome" role="status">
          @if (result(); as training) {
            <div class="card stack" data-result>
              <h2>{{ say('learn.done', { model: training.modelId }) }}</h2>
              <dl class="figures">
                <div>
                  <dt>{{ say('learn.accuracy') }}</dt>
                  <dd data-accuracy>{{ speech.percent(training.accuracy) }}</dd>
                </div>
                <div>
                  <dt>{{ say('learn.examples') }}</dt>
                  <dd data-examples>{{ speech.number(learned()) }}</dd>
                </div>
              </dl>
              <p class="quiet">{{ say('learn.meaning') }}</p>
            </div>
          }
        </div>
        @if (problem(); as failure) {
          <app-problem [problem]="failure" />
        }
      </div>
    </div>
  `,
})
export class LearnPage {
  private readonly business = inject(Calls).business;
  protected readonly settings = inject(Settings);
  protected readonly speech = inject(Speech);
  protected readonly say = this.speech.say;

  protected readonly csv = signal('');
  protected readonly fileName = signal('');
  protected readonly busy = signal(false);
  protected readonly learned = signal(0);
  /** How many examples there are; 0 where that is not known. */
  protected readonly total = signal(0);
  protected readonly result = signal<TrainResponse | null>(null);
  protected readonly problem = signal<Problem | null>(null);
  protected stop = new AbortController();

  protected readonly editable = computed(() => this.csv().length <= EDITABLE);
  protected readonly check = computed(() => (this.csv().trim() ? checkCsv(this.csv()) : null));
  protected readonly checkText = computed(() => {
    const check = this.check();
    if (!check) return '';
    if (!check.ok) return this.say(`learn.${check.reason}`, { line: check.line });
    const { number } = this.speech;
    return this.say('learn.ready', {
      examples: number(check.examples),
      labels: number(check.labels),
    });
  });
  protected readonly progressText = computed(() => {
    const [learned, total] = [this.speech.number(this.learned()), this.total()];
    return total
      ? this.say('learn.progress', { learned, total: this.speech.number(total) })
      : this.say('learn.progressopen', { learned });
  });

  protected async load(event: Event): Promise<void> {
    const field = event.target as HTMLInputElement;
    const file = field.files?.[0];
    if (!file) return;
    this.csv.set(await file.text());
    this.fileName.set(file.name);
    // The same file can be chosen again after it changed on disk.
    field.value = '';
  }

  /** In batches, because a call has a size limit; the model learns on from one to the next. */
  protected learnFromCsv(): Promise<void> {
    const all = examples(this.csv());
    return this.learn(all.length, async (modelId) => {
      for (const batch of batches(all)) {
        const source = { case: 'examples' as const, value: { examples: batch } };
        const before = this.learned();
        await this.follow(this.business.learn({ modelId, source }, this.options()), before);
      }
    });
  }

  protected learnFromStored(): Promise<void> {
    const source = { case: 'collection', value: this.settings.collection() } as const;
    return this.learn(0, (modelId) =>
      this.follow(this.business.learn({ modelId, source }, this.options()), 0),
    );
  }

  private async learn(total: number, run: (modelId: string) => Promise<void>): Promise<void> {
    if (this.busy()) return;
    this.stop = new AbortController();
    this.busy.set(true);
    this.learned.set(0);
    this.total.set(total);
    this.problem.set(null);
    this.result.set(null);
    try {
      await run(this.settings.model());
    } catch (error) {
      this.result.set(null);
      if (!this.stop.signal.aborted) this.problem.set(Problem.of(error));
    } finally {
      this.busy.set(false);
    }
  }

  private async follow(progress: AsyncIterable<LearnProgress>, before: number): Promise<void> {
    for await (const { examples, result } of progress) {
      this.learned.set(before + examples);
      if (result) this.result.set(result);
    }
  }

  private options(): { signal: AbortSignal; timeoutMs: number } {
    return { signal: this.stop.signal, timeoutMs: NO_DEADLINE };
  }
}
