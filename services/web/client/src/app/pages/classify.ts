/** Classifies a text, and stores it on request; shows the latest results. */
import { Component, inject, signal } from '@angular/core';
import { RouterLink } from '@angular/router';
import type { ClassifiedDocument } from '../../stubs/business_service_pb';
import { Calls } from '../calls';
import { Live } from '../live';
import { ProblemNote } from '../parts/problem';
import { Problem } from '../problem';
import { Settings } from '../settings';
import { Translator } from '../translator';

const KEPT = 10;

@Component({
  imports: [ProblemNote, RouterLink],
  template: `
    <div>
      <h1>{{ t('nav.classify') }}</h1>
      <p class="lead">{{ t('classify.lead', { model: settings.model() }) }}</p>
    </div>

    <form class="card stack" (submit)="$event.preventDefault(); classify()">
      <label class="field">
        <span>{{ t('classify.text') }}</span>
        <textarea
          name="text"
          rows="4"
          required
          [placeholder]="t('classify.placeholder')"
          [value]="text()"
          (input)="text.set($any($event.target).value)"
          (keydown.control.enter)="classify()"
        ></textarea>
      </label>
      <div class="actions">
        <button class="primary" type="submit" name="classify" [disabled]="busy() || !text().trim()">
          {{ t(busy() ? 'classify.busy' : 'classify.submit') }}
        </button>
        <label class="check">
          <input
            type="checkbox"
            name="store"
            [checked]="store()"
            (change)="store.set($any($event.target).checked)"
          />
          <span>{{ t('classify.store', { collection: settings.collection() }) }}</span>
        </label>
      </div>
      @if (live.untrained()) {
        <p class="quiet">
          {{ t('overview.untrained') }} <a routerLink="/learn">{{ t('nav.learn') }}</a>
        </p>
      }
      @if (problem(); as failure) {
        <app-problem [problem]="failure" />
      }
    </form>

    <section aria-labelledby="results">
      <h2 id="results">{{ t('classify.results') }}</h2>
      <ul class="results" aria-live="polite">
        @for (result of results(); track result) {
          <li class="card">
            <p class="excerpt">{{ result.text }}</p>
            <div class="result">
              <strong class="label" data-label>{{ result.label }}</strong>
              <meter
                min="0"
                max="1"
                [value]="result.confidence"
                [attr.aria-label]="t('classify.level')"
              ></meter>
              <span>{{
                t('classify.confidence', { percent: translator.percent(result.confidence) })
              }}</span>
            </div>
            <p class="quiet" data-stored>
              @if (result.id) {
                {{ t('classify.stored', { collection: result.collection }) }}
                <code>{{ result.id }}</code>
              } @else {
                {{ t('classify.notstored') }}
              }
            </p>
          </li>
        } @empty {
          <li class="empty">{{ t('classify.none') }}</li>
        }
      </ul>
    </section>
  `,
})
export class ClassifyPage {
  private readonly business = inject(Calls).business;
  protected readonly live = inject(Live);
  protected readonly settings = inject(Settings);
  protected readonly translator = inject(Translator);
  protected readonly t = this.translator.t;
  protected readonly text = signal('');
  protected readonly store = signal(true);
  protected readonly busy = signal(false);
  protected readonly results = signal<readonly ClassifiedDocument[]>([]);
  protected readonly problem = signal<Problem | null>(null);

  protected async classify(): Promise<void> {
    const text = this.text().trim();
    if (this.busy() || !text) return;
    this.busy.set(true);
    this.problem.set(null);
    try {
      const [modelId, collection] = [this.settings.model(), this.settings.collection()];
      const request = { text, modelId, collection };
      const result = this.store()
        ? await this.business.classifyAndStore(request)
        : await this.business.classify(request);
      this.results.update((results) => [result, ...results].slice(0, KEPT));
      this.text.set('');
    } catch (error) {
      this.problem.set(Problem.of(error));
    } finally {
      this.busy.set(false);
    }
  }
}
