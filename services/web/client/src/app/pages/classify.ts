/** Classifies a text, and stores it if asked to; the verdicts of this visit stay in view. */
import { Component, inject, signal } from '@angular/core';
import type { ClassifiedDocument } from '../../stubs/business_service_pb';
import { Calls } from '../calls';
import { ProblemNote } from '../parts/problem';
import { Problem } from '../problem';
import { Settings } from '../settings';
import { Speech } from '../speech';

const KEPT = 10;

@Component({
  imports: [ProblemNote],
  template: `
    <div>
      <h1>{{ say('nav.classify') }}</h1>
      <p class="lead">{{ say('classify.lead', { model: settings.model() }) }}</p>
    </div>

    <form class="card stack" (submit)="$event.preventDefault(); classify()">
      <label class="field">
        <span>{{ say('classify.text') }}</span>
        <textarea
          name="text"
          rows="4"
          required
          [placeholder]="say('classify.placeholder')"
          [value]="text()"
          (input)="text.set($any($event.target).value)"
          (keydown.control.enter)="classify()"
        ></textarea>
      </label>
      <div class="actions">
        <button class="primary" type="submit" name="classify" [disabled]="busy() || !text().trim()">
          {{ say(busy() ? 'classify.busy' : 'classify.submit') }}
        </button>
        <label class="check">
          <input
            type="checkbox"
            name="store"
            [checked]="store()"
            (change)="store.set($any($event.target).checked)"
          />
          <span>{{ say('classify.store', { collection: settings.collection() }) }}</span>
        </label>
      </div>
      @if (problem(); as failure) {
        <app-problem [problem]="failure" />
      }
    </form>

    <section aria-labelledby="verdicts">
      <h2 id="verdicts">{{ say('classify.verdicts') }}</h2>
      <ul class="verdicts" aria-live="polite">
        @for (verdict of verdicts(); track verdict) {
          <li class="card">
            <p class="excerpt">{{ verdict.text }}</p>
            <div class="verdict">
              <strong class="label" data-label>{{ verdict.label }}</strong>
              <meter
                min="0"
                max="1"
                [value]="verdict.confidence"
                [attr.aria-label]="say('classify.level')"
              ></meter>
              <span>{{
                say('classify.confidence', { percent: speech.percent(verdict.confidence) })
              }}</span>
            </div>
            <p class="quiet" data-stored>
              @if (verdict.id) {
                {{ say('classify.stored', { collection: verdict.collection }) }}
                <code>{{ verdict.id }}</code>
              } @else {
                {{ say('classify.notstored') }}
              }
            </p>
          </li>
        } @empty {
          <li class="empty">{{ say('classify.none') }}</li>
        }
      </ul>
    </section>
  `,
})
export class ClassifyPage {
  private readonly business = inject(Calls).business;
  protected readonly settings = inject(Settings);
  protected readonly speech = inject(Speech);
  protected readonly say = this.speech.say;
  protected readonly text = signal('');
  protected readonly store = signal(true);
  protected readonly busy = signal(false);
  protected readonly verdicts = signal<readonly ClassifiedDocument[]>([]);
  protected readonly problem = signal<Problem | null>(null);

  protected async classify(): Promise<void> {
    const text = this.text().trim();
    if (this.busy() || !text) return;
    this.busy.set(true);
    this.problem.set(null);
    try {
      const [modelId, collection] = [this.settings.model(), this.settings.collection()];
      const request = { text, modelId, collection };
      const verdict = this.store()
        ? await this.business.classifyAndStore(request)
        : await this.business.classify(request);
      this.verdicts.update((verdicts) => [verdict, ...verdicts].slice(0, KEPT));
      this.text.set('');
    } catch (error) {
      this.problem.set(Problem.of(error));
    } finally {
      this.busy.set(false);
    }
  }
}
