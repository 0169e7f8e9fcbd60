/** Trains the model with a CSV file, pasted examples, or stored documents. */
import { Component, computed, inject, signal } from '@angular/core';
import type { LearnProgress, TrainResponse } from '../../stubs/business_service_pb';
import { batches } from '../batches';
import { Calls, NO_DEADLINE } from '../calls';
import { checkCsv, examples } from '../csv';
import { ProblemNote } from '../parts/problem';
import { Problem } from '../problem';
import { Settings } from '../settings';
import { Translator } from '../translator';

/** Longer texts are not shown in the text field, which would become slow. */
const EDITABLE = 100_000;

@Component({
  imports: [ProblemNote],
  template: `
    <div>
      <h1>{{ t('nav.learn') }}</h1>
      <p class="lead">{{ t('learn.lead', { model: settings.model() }) }}</p>
    </div>

    <div class="columns">
      <form class="card stack" (submit)="$event.preventDefault(); learnFromCsv()">
        <h2>{{ t('learn.csv') }}</h2>
        <label class="file">
          <input type="file" accept=".csv,text/csv" name="file" (change)="load($event)" />
          <span class="button">{{ t('learn.file') }}</span>
          <span class="quiet">{{ fileName() }}</span>
        </label>
        @if (editable()) {
          <label class="field">
            <span>{{ t('learn.paste') }}</span>
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
          <p class="quiet" id="csv-hint">{{ t('learn.hint', { header: 'text,label' }) }}</p>
        }
        <div class="actions">
          <button class="primary" name="train" type="submit" [disabled]="busy() || !check()?.ok">
            {{ t('learn.train') }}
          </button>
          <span id="csv-check" role="status" [class.wrong]="check()?.ok === false">{{
            checkText()
          }}</span>
        </div>
      </form>

      <div class="stack">
        <section class="card stack" aria-labelledby="stored">
          <h2 id="stored">{{ t('learn.stored') }}</h2>
          <p>{{ t('learn.storedbody', { collection: settings.collection() }) }}</p>
          <div class="actions">
            <button type="button" name="train-from" [disabled]="busy()" (click)="learnFromStored()">
              {{ t('learn.trainstored') }}
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
                {{ t('learn.stop') }}
              </button>
            </div>
          </div>
        }
        <div class="outcome" role="status">
          @if (result(); as training) {
            <div class="card stack" data-result>
              <h2>{{ t('learn.done', { model: training.modelId }) }}</h2>
              <dl class="statistics">
                <div>
                  <dt>{{ t('learn.accuracy') }}</dt>
                  <dd data-accuracy>{{ translator.percent(training.accuracy) }}</dd>
                </div>
                <div>
                  <dt>{{ t('learn.examples') }}</dt>
                  <dd data-examples>{{ translator.number(learned()) }}</dd>
                </div>
              </dl>
              <p class="quiet">{{ t('learn.meaning') }}</p>
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
  protected readonly translator = inject(Translator);
  protected readonly t = this.translator.t;

  protected readonly csv = signal('');
  protected readonly fileName = signal('');
  protected readonly busy = signal(false);
  protected readonly learned = signal(0);
  /** The number of examples; 0 if it is unknown. */
  protected readonly total = signal(0);
  protected readonly result = signal<TrainResponse | null>(null);
  protected readonly problem = signal<Problem | null>(null);
  protected stop = new AbortController();

  protected readonly editable = computed(() => this.csv().length <= EDITABLE);
  protected readonly check = computed(() => (this.csv().trim() ? checkCsv(this.csv()) : null));
  protected readonly checkText = computed(() => {
    const check = this.check();
    if (!check) return '';
    if (!check.ok) return this.t(`learn.${check.reason}`, { line: check.line });
    const { number } = this.translator;
    return this.t('learn.ready', {
      examples: number(check.examples),
      labels: number(check.labels),
    });
  });
  protected readonly progressText = computed(() => {
    const [learned, total] = [this.translator.number(this.learned()), this.total()];
    return total
      ? this.t('learn.progress', { learned, total: this.translator.number(total) })
      : this.t('learn.progressopen', { learned });
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

  /** In batches, because a call has a size limit; each batch continues the training of the same model. */
  protected learnFromCsv(): Promise<void> {
    const all = examples(this.csv());
    return this.learn(all.length, async (modelId) => {
      for (const batch of batches(all, ({ text, label }) => text.length + label.length)) {
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
