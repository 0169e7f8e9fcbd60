/** Teaches the model, from pasted or uploaded examples or from what is stored. */
import { Component, computed, inject, signal } from '@angular/core';
import { Api, Problem, type Training } from '../api';
import { checkCsv } from '../csv';
import { ProblemNote } from '../parts/problem';
import { Settings } from '../settings';
import { Speech } from '../speech';

@Component({
  imports: [ProblemNote],
  template: `
    <h1>{{ say('nav.learn') }}</h1>
    <p class="lead">{{ say('learn.lead', { model: settings.model() }) }}</p>

    <form class="card stack" (submit)="$event.preventDefault(); trainFromCsv()">
      <h2>{{ say('learn.csv') }}</h2>
      <label class="file">
        <input type="file" accept=".csv,text/csv" name="file" (change)="load($event)" />
        <span class="button">{{ say('learn.file') }}</span>
        <span class="quiet">{{ fileName() }}</span>
      </label>
      <label class="field">
        <span>{{ say('learn.paste') }}</span>
        <textarea
          name="csv"
          rows="9"
          spellcheck="false"
          class="code"
          aria-describedby="csv-hint csv-check"
          placeholder="text,label"
          [value]="csv()"
          (input)="csv.set($any($event.target).value)"
        ></textarea>
      </label>
      <p class="quiet" id="csv-hint">{{ say('learn.hint', { header: 'text,label' }) }}</p>
      <div class="actions">
        <button class="primary" name="train" type="submit" [disabled]="busy() || !check()?.ok">
          {{ say('learn.train') }}
        </button>
        <span id="csv-check" role="status" [class.wrong]="check()?.ok === false">{{
          checkText()
        }}</span>
      </div>
    </form>

    <section class="card stack" aria-labelledby="stored">
      <h2 id="stored">{{ say('learn.stored') }}</h2>
      <p>{{ say('learn.storedbody', { collection: settings.collection() }) }}</p>
      <div class="actions">
        <button type="button" name="train-from" [disabled]="busy()" (click)="trainFromStored()">
          {{ say('learn.trainstored') }}
        </button>
      </div>
    </section>

    <div class="outcome" aria-live="polite">
      @if (busy()) {
        <div class="card stack">
          <label for="progress" aria-live="off">{{
            say('learn.busy', { seconds: seconds() })
          }}</label>
          <progress id="progress"></progress>
        </div>
      } @else if (result(); as training) {
        <div class="card stack" data-result>
          <h2>{{ say('learn.done', { model: training.model_id }) }}</h2>
          <dl class="figures">
            <div>
              <dt>{{ say('learn.accuracy') }}</dt>
              <dd data-accuracy>{{ speech.percent(training.accuracy) }}</dd>
            </div>
            <div>
              <dt>{{ say('learn.examples') }}</dt>
              <dd>{{ speech.number(training.examples) }}</dd>
            </div>
          </dl>
        </div>
      }
    </div>
    @if (problem(); as failure) {
      <app-problem [problem]="failure" />
    }
  `,
})
export class LearnPage {
  private readonly api = inject(Api);
  protected readonly settings = inject(Settings);
  protected readonly speech = inject(Speech);
  protected readonly say = this.speech.say;

  protected readonly csv = signal('');
  protected readonly fileName = signal('');
  protected readonly busy = signal(false);
  protected readonly seconds = signal(0);
  protected readonly result = signal<Training | null>(null);
  protected readonly problem = signal<Problem | null>(null);

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

  protected async load(event: Event): Promise<void> {
    const field = event.target as HTMLInputElement;
    const file = field.files?.[0];
    if (!file) return;
    this.csv.set(await file.text());
    this.fileName.set(file.name);
    // The same file can be chosen again after it changed on disk.
    field.value = '';
  }

  protected trainFromCsv(): Promise<void> {
    return this.train(() => this.api.train(this.settings.model(), this.csv()));
  }

  protected trainFromStored(): Promise<void> {
    return this.train(() => this.api.trainFrom(this.settings.model(), this.settings.collection()));
  }

  private async train(call: () => Promise<Training>): Promise<void> {
    if (this.busy()) return;
    this.busy.set(true);
    this.seconds.set(0);
    this.problem.set(null);
    this.result.set(null);
    const clock = setInterval(() => this.seconds.update((seconds) => seconds + 1), 1000);
    try {
      this.result.set(await call());
    } catch (error) {
      this.problem.set(Problem.of(error));
    } finally {
      clearInterval(clock);
      this.busy.set(false);
    }
  }
}
