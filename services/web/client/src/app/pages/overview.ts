/** What the deployment holds and whether its services serve, as the live feed tells it. */
import { Component, computed, inject } from '@angular/core';
import { RouterLink } from '@angular/router';
import { Live, type Service } from '../live';
import { ProblemNote } from '../parts/problem';
import { Speech } from '../speech';

/** Labels that have a bar: those with the most documents. */
const SHOWN = 12;

@Component({
  imports: [ProblemNote, RouterLink],
  template: `
    <div>
      <h1>{{ say('nav.overview') }}</h1>
      <p class="lead">{{ say('overview.lead') }}</p>
    </div>

    @if (live.problem(); as problem) {
      <app-problem [problem]="problem" />
    }

    <section aria-labelledby="services">
      <h2 id="services">{{ say('overview.services') }}</h2>
      <ul class="services">
        @for (service of live.services(); track service.name) {
          <li class="card" [class.faulty]="service.state === 'down'">
            <div>
              <h3>{{ speech.service(service.name) }}</h3>
              <span class="state" [class]="service.state" role="status">{{
                say(stateName(service))
              }}</span>
            </div>
            <p>
              <code>{{ service.name }}</code>
              @if (service.state === 'serving' && service.milliseconds > 0) {
                <span>{{ speech.number(service.milliseconds, 1) }} ms</span>
              }
              @if (service.state === 'down' && service.detail) {
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
      @if (live.summary()?.modelAccuracy === 0) {
        <p class="quiet">
          {{ say('overview.untrained') }} <a routerLink="/learn">{{ say('nav.learn') }}</a>
        </p>
      }
    </section>

    <section aria-labelledby="labels" [class.stale]="live.state() !== 'live'">
      <h2 id="labels">{{ say('overview.labels') }}</h2>
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
        <p class="empty">
          {{ say('overview.nolabels') }}
          <a routerLink="/classify">{{ say('nav.classify') }}</a>
        </p>
      }
    </section>
  `,
})
export class OverviewPage {
  protected readonly live = inject(Live);
  protected readonly speech = inject(Speech);
  protected readonly say = this.speech.say;
  protected readonly places = [1, 2, 3];
  protected readonly stateName = ({ state }: Service): `overview.${Service['state']}` =>
    `overview.${state}`;

  protected readonly figures = computed(() => {
    const summary = this.live.summary();
    const { number, percent } = this.speech;
    const known = (value: number | undefined, speak: (value: number) => string): string =>
      value === undefined ? '–' : speak(value);
    const documents = summary?.documents;
    return [
      {
        name: 'overview.documents',
        value: known(documents === undefined ? undefined : Number(documents), number),
      },
      { name: 'overview.accuracy', value: known(summary?.modelAccuracy || undefined, percent) },
      { name: 'overview.predictions', value: known(summary?.predictionsMade, number) },
      {
        name: 'overview.confidence',
        value: known(summary?.predictionsMade ? summary.averageConfidence : undefined, percent),
      },
    ] as const;
  });

  protected readonly bars = computed(() => {
    const counts = Object.entries(this.live.summary()?.documentsByLabel ?? {}).map(
      ([label, count]) => ({ label, count: Number(count) }),
    );
    const most = Math.max(1, ...counts.map(({ count }) => count));
    return counts
      .map(({ label, count }) => ({ label, count, width: (100 * count) / most }))
      .sort((a, b) => b.count - a.count || a.label.localeCompare(b.label))
      .slice(0, SHOWN);
  });
}
