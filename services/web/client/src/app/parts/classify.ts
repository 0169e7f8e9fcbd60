/** Classifies a text, stores it, and shows the verdict at once. */
import { Component, inject, output, signal } from '@angular/core';
import { Api, Problem, type Classification } from '../api';
import { Settings } from '../settings';
import { Speech } from '../speech';
import { ProblemNote } from './problem';

@Component({
  selector: 'app-classify',
  imports: [ProblemNote],
  template: `
    <form class="card stack" (submit)="$event.preventDefault(); classify()">
      <h2>{{ say('classify.title') }}</h2>
      <label class="field">
        <span>{{ say('classify.text') }}</span>
        <textarea
          name="text"
          rows="3"
          required
          [placeholder]="say('classify.placeholder')"
          [value]="text()"
          (input)="text.set($any($event.target).value)"
        ></textarea>
      </label>
      <div class="actions">
        <button class="primary" type="submit" name="classify" [disabled]="busy() || !text().trim()">
          {{ say(busy() ? 'classify.busy' : 'classify.submit') }}
        </button>
        <p class="verdict" role="status">
          @if (result(); as verdict) {
            <span>{{ say('classify.result') }}</span>
            <strong class="label" data-label>{{ verdict.label }}</strong>
            <span class="quiet">{{
              say('classify.confidence', { percent: speech.percent(verdict.confidence) })
            }}</span>
          }
        </p>
      </div>
      @if (problem(); as failure) {
        <app-problem [problem]="failure" />
      }
    </form>
  `,
})
export class Classify {
  readonly stored = output();
  private readonly api = inject(Api);
  private readonly settings = inject(Settings);
  protected readonly speech = inject(Speech);
  protected readonly say = this.speech.say;
  protected readonly text = signal('');
  protected readonly busy = signal(false);
  protected readonly result = signal<Classification | null>(null);
  protected readonly problem = signal<Problem | null>(null);

  protected async classify(): Promise<void> {
    const text = this.text().trim();
    if (this.busy() || !text) return;
    this.busy.set(true);
    this.problem.set(null);
    this.result.set(null);
    try {
      const { model, collection } = this.settings;
      this.result.set(await this.api.classify(text, model(), collection()));
      this.text.set('');
      this.stored.emit();
    } catch (error) {
      this.problem.set(Problem.of(error));
    } finally {
      this.busy.set(false);
    }
  }
}
