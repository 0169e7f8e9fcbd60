/** The model and the services over the last minutes, drawn as the live feed comes. */
import { Component, computed, inject } from '@angular/core';
import { ceiling, rates, type Point, type Sample } from '../history';
import { Live } from '../live';
import { Chart } from '../parts/chart';
import { ProblemNote } from '../parts/problem';
import { Settings } from '../settings';
import { Speech } from '../speech';

/** Samples that a service's lane shows. */
const SLOTS = 60;

@Component({
  imports: [Chart, ProblemNote],
  template: `
    <div>
      <h1>{{ say('nav.monitor') }}</h1>
      <p class="lead">{{ say('monitor.lead', { model: settings.model() }) }}</p>
    </div>

    @if (live.problem(); as problem) {
      <app-problem [problem]="problem" />
    }

    <div class="charts">
      <app-chart
        [title]="say('overview.accuracy')"
        [points]="accuracy()"
        [most]="1"
        [format]="speech.percent"
      />
      <app-chart
        [title]="say('overview.confidence')"
        [points]="confidence()"
        [most]="1"
        [format]="speech.percent"
      />
      <app-chart
        [title]="say('overview.predictions')"
        [points]="predictions()"
        [most]="most(predictions())"
        [format]="whole"
      />
      <app-chart
        [title]="say('monitor.rate')"
        [points]="rate()"
        [most]="most(rate())"
        [format]="tenths"
      />
    </div>

    <section aria-labelledby="availability">
      <h2 id="availability">{{ say('monitor.availability') }}</h2>
      <ul class="lanes card">
        @for (lane of lanes(); track lane.name) {
          <li>
            <span>{{ speech.service(lane.name) }}</span>
            <span class="lane" aria-hidden="true">
              @for (slot of lane.slots; track $index) {
                <i [class]="slot"></i>
              }
            </span>
            <span class="count">{{ lane.share }}</span>
          </li>
        }
      </ul>
    </section>
  `,
})
export class MonitorPage {
  protected readonly live = inject(Live);
  protected readonly settings = inject(Settings);
  protected readonly speech = inject(Speech);
  protected readonly say = this.speech.say;
  protected readonly whole = (value: number): string => this.speech.number(value);
  protected readonly tenths = (value: number): string => this.speech.number(value, 1);

  protected readonly accuracy = this.line(({ accuracy }) => accuracy);
  protected readonly confidence = this.line(({ confidence }) => confidence);
  protected readonly predictions = this.line(({ predictions }) => predictions);
  protected readonly rate = computed(() => rates(this.live.samples()));

  /** Each service's last samples, newest at the right; a share of those that are known. */
  protected readonly lanes = computed(() => {
    const samples = this.live.samples();
    return this.live.services().map(({ name }) => {
      const states = samples.map(({ serving }) => serving[name]);
      const known = states.filter((state) => state !== undefined);
      const share = known.filter(Boolean).length / Math.max(1, known.length);
      const slots = Array.from({ length: SLOTS }, (_, slot) => {
        const state = states[states.length - SLOTS + slot];
        return state === undefined ? '' : state ? 'up' : 'down';
      });
      return { name, slots, share: this.speech.percent(share) };
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
