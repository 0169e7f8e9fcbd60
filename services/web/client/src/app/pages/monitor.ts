/** Live charts of the model and the services over the last minutes. */
import { Component, computed, inject } from '@angular/core';
import { rates, scale, timeline, type Point, type Sample, type Scale } from '../history';
import { Live } from '../live';
import { Chart } from '../parts/chart';
import { ProblemNote } from '../parts/problem';
import { Settings } from '../settings';
import { Translator } from '../translator';

/** The number of parts of a service's timeline. */
const PARTS = 30;

@Component({
  imports: [Chart, ProblemNote],
  template: `
    <div>
      <h1>{{ t('nav.monitor') }}</h1>
      <p class="lead">{{ t('monitor.lead', { model: settings.model() }) }}</p>
    </div>

    @if (live.problem(); as problem) {
      <app-problem [problem]="problem" />
    }

    <div class="charts">
      <app-chart
        [title]="t('overview.accuracy')"
        [points]="accuracy()"
        [scale]="share"
        [format]="translator.percent"
      />
      <app-chart
        [title]="t('overview.confidence')"
        [points]="confidence()"
        [scale]="share"
        [format]="translator.percent"
      />
      <app-chart
        [title]="t('overview.predictions')"
        [points]="predictions()"
        [scale]="scaleOf(predictions(), true)"
        [format]="whole"
      />
      <app-chart
        [title]="t('monitor.rate')"
        [points]="rate()"
        [scale]="scaleOf(rate(), false)"
        [format]="perSecond"
      />
    </div>

    <section aria-labelledby="availability">
      <h2 id="availability">{{ t('monitor.availability') }}</h2>
      <ul class="timelines card">
        @for (timeline of timelines(); track timeline.name) {
          <li>
            <span>{{ translator.service(timeline.name) }}</span>
            <span class="timeline" aria-hidden="true">
              @for (part of timeline.parts; track $index) {
                <i [class]="part"></i>
              }
            </span>
            <span class="count">{{ timeline.share }}</span>
          </li>
        }
      </ul>
    </section>
  `,
})
export class MonitorPage {
  protected readonly live = inject(Live);
  protected readonly settings = inject(Settings);
  protected readonly translator = inject(Translator);
  protected readonly t = this.translator.t;
  protected readonly whole = (value: number): string => this.translator.number(value);
  protected readonly perSecond = (value: number, digits: number): string =>
    `${this.translator.number(value, digits)}/s`;
  protected readonly share = scale(1, false);

  protected readonly accuracy = this.line(({ accuracy }) => accuracy);
  protected readonly confidence = this.line(({ confidence }) => confidence);
  protected readonly predictions = this.line(({ predictions }) => predictions);
  protected readonly rate = computed(() => rates(this.live.samples()));

  /** Each service's last minutes, now at the right, and its share of serving samples among the known ones. */
  protected readonly timelines = computed(() => {
    const samples = this.live.samples();
    return this.live.services().map(({ name }) => {
      const known = samples.map(({ serving }) => serving[name]).filter((up) => up !== undefined);
      const share = known.filter(Boolean).length / Math.max(1, known.length);
      const parts = timeline(samples, name, PARTS);
      return { name, parts, share: this.translator.percent(share) };
    });
  });

  protected scaleOf(points: readonly Point[], counted: boolean): Scale {
    return scale(Math.max(0, ...points.map(({ value }) => value ?? 0)), counted);
  }

  private line(value: (sample: Sample) => number | undefined): () => readonly Point[] {
    return computed(() =>
      this.live.samples().map((sample) => ({ time: sample.time, value: value(sample) })),
    );
  }
}
