/** A line over time. The heading shows the current value; screen readers get a summary as the picture's name. */
import { Component, computed, inject, input, signal } from '@angular/core';
import { path, span, type Point, type Scale } from '../history';
import { Translator } from '../translator';

const WIDTH = 600;
const HEIGHT = 120;

@Component({
  selector: 'app-chart',
  template: `
    <figure class="card chart">
      <figcaption>
        <span>{{ title() }}</span>
        <strong>{{ reading() }}</strong>
      </figcaption>
      <div class="plot">
        <div class="scale" aria-hidden="true">
          @for (tick of scale().ticks; track tick) {
            <span>{{ format()(tick, scale().digits) }}</span>
          }
        </div>
        <svg
          role="img"
          [attr.aria-label]="summary()"
          [attr.viewBox]="viewBox"
          preserveAspectRatio="none"
          (pointermove)="point($event)"
          (pointerleave)="pointed.set(null)"
        >
          @for (y of lines(); track y) {
            <line class="grid" x1="0" [attr.x2]="width" [attr.y1]="y" [attr.y2]="y" />
          }
          <path class="area" [attr.d]="area()" />
          <path class="line" [attr.d]="line()" />
          @if (pointed(); as at) {
            <line class="cursor" [attr.x1]="at.x" [attr.x2]="at.x" y1="0" [attr.y2]="height" />
          }
        </svg>
        <div class="times" aria-hidden="true">
          <span>{{ translator.t('monitor.ago', { time: ago() }) }}</span>
          <span>{{ translator.t('monitor.now') }}</span>
        </div>
      </div>
    </figure>
  `,
})
export class Chart {
  readonly title = input.required<string>();
  readonly points = input.required<readonly Point[]>();
  readonly scale = input.required<Scale>();
  readonly format = input.required<(value: number, digits: number) => string>();
  protected readonly translator = inject(Translator);
  protected readonly width = WIDTH;
  protected readonly height = HEIGHT;
  protected readonly viewBox = `0 0 ${WIDTH} ${HEIGHT}`;
  protected readonly lines = computed(() => {
    const { ticks } = this.scale();
    return ticks.map((_, index) => (HEIGHT * index) / (ticks.length - 1));
  });
  protected readonly pointed = signal<{ x: number; value: number; time: number } | null>(null);

  private readonly to = computed(() => this.points().at(-1)?.time ?? 0);
  private readonly from = computed(() => {
    const first = this.points()[0]?.time ?? this.to();
    return this.to() - span(this.to() - first);
  });
  private readonly known = computed(() =>
    this.points().flatMap(({ value }) => (value === undefined ? [] : [value])),
  );

  protected readonly line = computed(() =>
    path(this.points(), {
      from: this.from(),
      to: this.to(),
      least: 0,
      most: this.scale().ticks[0] ?? 1,
      width: WIDTH,
      height: HEIGHT,
    }),
  );

  /** Each segment of the line, closed at the bottom. */
  protected readonly area = computed(() =>
    this.line()
      .split('M')
      .filter(Boolean)
      .map((stretch) => {
        const first = stretch.split(' ')[0];
        const last = stretch.split('L').at(-1)?.split(' ')[0];
        return `M${first} ${HEIGHT}L${stretch}L${last} ${HEIGHT}Z`;
      })
      .join(''),
  );

  protected readonly ago = computed(() =>
    this.translator.unit((this.to() - this.from()) / 60_000, 'minute'),
  );

  protected readonly reading = computed(() => {
    const pointed = this.pointed();
    const value = pointed ? pointed.value : this.points().at(-1)?.value;
    return value === undefined ? '–' : this.exact(value);
  });

  protected readonly summary = computed(() => {
    const known = this.known();
    if (known.length === 0) return this.translator.t('monitor.nothing', { title: this.title() });
    return this.translator.t('monitor.summary', {
      title: this.title(),
      last: this.exact(known.at(-1) ?? 0),
      least: this.exact(Math.min(...known)),
      most: this.exact(Math.max(...known)),
    });
  });

  /** A value with one digit more than the marks. */
  private exact(value: number): string {
    return this.format()(value, this.scale().digits + 1);
  }

  protected point(event: PointerEvent): void {
    const box = (event.currentTarget as Element).getBoundingClientRect();
    const [from, to] = [this.from(), this.to()];
    const time = from + ((event.clientX - box.left) / box.width) * (to - from);
    let nearest: { time: number; value: number } | null = null;
    for (const { time: at, value } of this.points()) {
      if (value === undefined) continue;
      if (!nearest || Math.abs(at - time) < Math.abs(nearest.time - time))
        nearest = { time: at, value };
    }
    this.pointed.set(
      nearest && { ...nearest, x: (WIDTH * (nearest.time - from)) / Math.max(1, to - from) },
    );
  }
}
