/** The state of the services and statistics of the data, from the live feed. */
import { Component, computed, inject } from '@angular/core';
import { RouterLink } from '@angular/router';
import { Live, type Service } from '../live';
import { ProblemNote } from '../parts/problem';
import { Translator } from '../translator';

/** The number of bars, for the labels with the most documents. */
const SHOWN = 12;

@Component({
  imports: [ProblemNote, RouterLink],
  template: `
    <div>
      <h1>{{ t('nav.overview') }}</h1>
      <p class="lead">{{ t('overview.lead') }}</p>
    </div>

    @if (live.problem(); as problem) {
      <app-problem [problem]="problem" />
    }

    <section aria-labelledby="services">
      <h2 id="services">{{ t('overview.services') }}</h2>
      <ul class="services">
        @for (service of live.services(); track service.name) {
          <li class="card" [class.faulty]="service.state === 'down'">
            <div>
              <h3>{{ translator.service(service.name) }}</h3>
              <span class="state" [class]="service.state" role="status">{{
                t(stateName(service))
              }}</span>
            </div>
            <p>
              <code>{{ service.name }}</code>
              @if (service.state === 'serving' && service.milliseconds > 0) {
                <span>{{ translator.number(service.milliseconds, 1) }} ms</span>
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

    <section aria-labelledby="statistics" [class.stale]="live.state() !== 'live'">
      <h2 id="statistics">{{ t('overview.statistics') }}</h2>
      <dl class="statistics">
        @for (statistic of statistics(); track statistic.name) {
          <div class="card">
            <dt>{{ t(statistic.name) }}</dt>
            <dd>{{ statistic.value }}</dd>
          </div>
        }
      </dl>
      @if (live.untrained()) {
        <p class="quiet">
          {{ t('overview.untrained') }} <a routerLink="/learn">{{ t('nav.learn') }}</a>
        </p>
      }
    </section>

    <section aria-labelledby="labels" [class.stale]="live.state() !== 'live'">
      <h2 id="labels">{{ t('overview.labels') }}</h2>
      @if (bars().length) {
        <ul class="bars card">
          @for (bar of bars(); track bar.label) {
            <li>
              <span class="cut" [title]="bar.label">{{ bar.label }}</span>
              <span class="track" aria-hidden="true"><i [style.width.%]="bar.width"></i></span>
              <span class="count">{{ translator.number(bar.count) }}</span>
            </li>
          }
        </ul>
        @if (bars().length < labels().length) {
          <p class="quiet" data-cut>
            {{
              t('overview.cut', {
                shown: translator.number(bars().length),
                all: translator.number(labels().length),
              })
            }}
          </p>
        }
      } @else if (live.untrained()) {
        <p class="empty">
          {{ t('overview.untrained') }} <a routerLink="/learn">{{ t('nav.learn') }}</a>
        </p>
      } @else {
        <p class="empty">
          {{ t('overview.nolabels') }}
          <a routerLink="/classify">{{ t('nav.classify') }}</a>
        </p>
      }
    </section>
  `,
})
export class OverviewPage {
  protected readonly live = inject(Live);
  protected readonly translator = inject(Translator);
  protected readonly t = this.translator.t;
  protected readonly places = [1, 2, 3];
  protected readonly stateName = ({ state }: Service): `overview.${Service['state']}` =>
    `overview.${state}`;

  protected readonly statistics = computed(() => {
    const summary = this.live.summary();
    const { number, percent } = this.translator;
    const known = (value: number | undefined, format: (value: number) => string): string =>
      value === undefined ? '–' : format(value);
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

  protected readonly labels = computed(() =>
    Object.entries(this.live.summary()?.documentsByLabel ?? {}).map(([label, count]) => ({
      label,
      count: Number(count),
    })),
  );

  protected readonly bars = computed(() => {
    const counts = this.labels();
    const most = Math.max(1, ...counts.map(({ count }) => count));
    return counts
      .map(({ label, count }) => ({ label, count, width: (100 * count) / most }))
      .sort((a, b) => b.count - a.count || a.label.localeCompare(b.label))
      .slice(0, SHOWN);
  });
}
