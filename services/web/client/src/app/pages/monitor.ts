/** Live charts of the model and the services over the last minutes. */
import { Component, computed, inject } from '@angular/core';
import { ceiling, rates, type Point, type Sample } from '../history';
import { Live } from '../live';
import { Chart } from '../parts/chart';
import { ProblemNote } from '../parts/problem';
import { Settings } from '../settings';
import { Translator } from '../translator';

/** The number of samples in a service's timeline. */
const SLOTS = 60;

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
        [most]="1"
        [format]="translator.percent"
      />
      <app-chart
        [title]="t('overview.confidence')"
        [points]="confidence()"
        [most]="1"
        [format]="translator.percent"
      />
      <app-chart
        [title]="t('overview.predictions')"
        [points]="predictions()"
        [most]="most(predictions())"
        [format]="whole"
      />
      <app-chart
        [title]="t('monitor.rate')"
        [points]="rate()"
        [most]="most(rate())"
        [format]="tenths"
      />
    </div>

    <section aria-labelledby="availability">
      <h2 id="availability">{{ t('monitor.availability') }}</h2>
      <ul class="timelines card">
        @for (timeline of timelines(); track timeline.name) {
          <li>
            <span>{{ translator.service(timeline.name) }}</span>
            <span class="timeline" aria-hidden="true">
              @for (slot of timeline.slots; track $index) {
                <i [class]="slot"></i>
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
  protected readonly tenths = (value: number): string => this.translator.number(value, 1);

  protected readonly accuracy = this.line(({ accuracy }) => accuracy);
  protected readonly confidence = this.line(({ confidence }) => confidence);
  protected readonly predictions = this.line(({ predictions }) => predictions);
  protected readonly rate = computed(() => rates(this.live.samples()));

  /** Each service's last samples, newest at the right, and its share of serving samples among the known ones. */
  protected readonly timelines = computed(() => {
    const samples = this.live.samples();
    return this.live.services().map(({ name }) => {
      const states = samples.map(({ serving }) => serving[name]);
      const known = states.filter((state) => state !== undefined);
      const share = known.filter(Boolean).length / Math.max(1, known.length);
      const slots = Array.from({ length: SLOTS }, (_, slot) => {
        const state = states[states.length - SLOTS + slot];
        return state === undefined ? '' : state ? 'up' : 'down';
      });
      return { name, slots, share: this.translator.percent(share) };
    });
  });

  protected most(points: readonly Point[]): number {
    return ceiling(Math.max(0, ...points.map(({ value }) => value ?? 0)));
  }

  private line(value: (sample: Sample) => number | undefined): () => readonly Point[] {
    return computed(() =>
      this.live.samples().map((sample) => ({ time: sample.time, value: value(sample) })),
    );
  }
}
