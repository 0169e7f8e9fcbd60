/** What the deployment holds and whether its services serve, as the summary stream tells it. */
import { Component, computed, inject } from '@angular/core';
import { Live } from '../live';
import { ProblemNote } from '../parts/problem';
import { Speech } from '../speech';

@Component({
  imports: [ProblemNote],
  template: `
    <h1>{{ say('nav.overview') }}</h1>
    <p class="lead">{{ say('overview.lead') }}</p>

    @if (live.problem(); as problem) {
      <app-problem [problem]="problem" />
    }

    <section aria-labelledby="services">
      <h2 id="services">{{ say('overview.services') }}</h2>
      <ul class="services">
        @for (service of live.services(); track service.name) {
          <li class="card">
            <div>
              <h3>{{ speech.service(service.name) }}</h3>
              <span class="state" [class.serving]="service.serving">{{
                say(service.serving ? 'overview.serving' : 'overview.down')
              }}</span>
            </div>
            <p>
              <code>{{ service.name }}</code>
              @if (!service.serving && service.detail) {
                <span>{{ service.detail }}</span>
              }
            </p>
          </li>
        } @empty {
          @for (place of places; track place) {
            <li class="card waiting" aria-hidden="true"></li>
          }
        }
      </ul>
    </section>

    <section aria-labelledby="figures" [class.stale]="live.state() !== 'live'">
      <h2 id="figures">{{ say('overview.figures') }}</h2>
      <dl class="figures">
        @for (figure of figures(); track figure.name) {
          <div class="card">
            <dt>{{ say(figure.name) }}</dt>
            <dd>{{ figure.value }}</dd>
          </div>
        }
      </dl>
      @if (live.summary(); as summary) {
        @if (summary.model_accuracy === 0) {
          <p class="quiet">{{ say('overview.untrained') }}</p>
        }
        <h2>{{ say('overview.labels') }}</h2>
        @if (bars().length) {
          <ul class="bars card">
            @for (bar of bars(); track bar.label) {
              <li>
                <span>{{ bar.label }}</span>
                <span class="track" aria-hidden="true"><i [style.width.%]="bar.width"></i></span>
                <span class="count">{{ speech.number(bar.count) }}</span>
              </li>
            }
          </ul>
        } @else {
          <p class="empty">{{ say('overview.nolabels') }}</p>
        }
      }
    </section>
  `,
})
export class OverviewPage {
  protected readonly live = inject(Live);
  protected readonly speech = inject(Speech);
  protected readonly say = this.speech.say;
  protected readonly places = [1, 2, 3];

  protected readonly figures = computed(() => {
    const summary = this.live.summary();
    const { number, percent } = this.speech;
    return [
      { name: 'overview.documents', value: summary ? number(summary.documents) : '–' },
      {
        name: 'overview.accuracy',
        value: summary?.model_accuracy ? percent(summary.model_accuracy) : '–',
      },
      { name: 'overview.predictions', value: summary ? number(summary.predictions_made) : '–' },
      {
        name: 'overview.confidence',
        value: summary?.predictions_made ? percent(summary.average_confidence) : '–',
      },
    ] as const;
  });

  protected readonly bars = computed(() => {
    const counts = Object.entries(this.live.summary()?.documents_by_label ?? {});
    const most = Math.max(1, ...counts.map(([, count]) => count));
    return counts
      .map(([label, count]) => ({ label, count, width: (100 * count) / most }))
      .sort((a, b) => b.count - a.count || a.label.localeCompare(b.label));
  });
}
