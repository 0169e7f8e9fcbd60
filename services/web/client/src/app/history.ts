/** The values of the live feed over the last minutes, as points to draw. Pure: the caller passes the time. */

export interface Sample {
  /** In milliseconds. */
  readonly time: number;
  readonly accuracy: number | undefined;
  readonly predictions: number | undefined;
  readonly confidence: number | undefined;
  /** Whether each service was serving, by name. */
  readonly serving: Readonly<Record<string, boolean>>;
}

/** The time span of the charts. */
export const SPAN = 10 * 60_000;

/** Adds a sample, and drops samples that are too old. */
export function append(samples: readonly Sample[], sample: Sample): readonly Sample[] {
  const first = samples.findIndex(({ time }) => time >= sample.time - SPAN);
  return [...(first < 0 ? [] : samples.slice(first)), sample];
}

export interface Point {
  readonly time: number;
  /** Absent if the value is unknown. */
  readonly value: number | undefined;
}

/** Predictions per second between neighbouring samples; a lower counter means that the service restarted. */
export function rates(samples: readonly Sample[]): readonly Point[] {
  return samples.slice(1).map(({ time, predictions }, index) => {
    const before = samples[index];
    if (predictions === undefined || before?.predictions === undefined)
      return { time, value: undefined };
    const more = predictions - before.predictions;
    const seconds = (time - before.time) / 1000;
    return { time, value: (more < 0 ? predictions : more) / seconds };
  });
}

/** The line through the known points as an SVG path in a box of the given size, with gaps for unknown values. */
export function path(
  points: readonly Point[],
  box: { from: number; to: number; least: number; most: number; width: number; height: number },
): string {
  const span = Math.max(1, box.to - box.from);
  const range = box.most - box.least || 1;
  let drawing = false;
  let line = '';
  for (const { time, value } of points) {
    if (value === undefined) {
      drawing = false;
      continue;
    }
    const x = (box.width * (time - box.from)) / span;
    const y = box.height * (1 - (value - box.least) / range);
    line += `${drawing ? 'L' : 'M'}${round(x)} ${round(y)}`;
    drawing = true;
  }
  return line;
}

/** The smallest round number (1, 2 or 5 times a power of ten) that is at least `value`. */
export function ceiling(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 5, 10].find((step) => step * power >= value) ?? 10;
  return step * power;
}

/** The marks of an axis from 0, all different when they are written with `digits` after the point. */
export interface Scale {
  /** From the highest to 0. */
  readonly ticks: readonly number[];
  readonly digits: number;
}

/** A scale in round steps for values up to `most`: in whole ones for things that are counted. */
export function scale(most: number, counted: boolean): Scale {
  const step = Math.max(ceiling(most / 4), counted ? 1 : 0);
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  const count = Math.max(1, Math.ceil(most / step - 1e-9));
  const ticks = Array.from({ length: count + 1 }, (_, index) =>
    Number(((count - index) * step).toFixed(digits)),
  );
  return { ticks, digits };
}

/** The time span of an axis that shows samples of the last `milliseconds`: a round number of minutes. */
export function span(milliseconds: number): number {
  const minutes = [1, 2, 5].find((minutes) => minutes * 60_000 >= milliseconds);
  return minutes ? minutes * 60_000 : SPAN;
}

/** Whether a service was serving in each part of the last minutes: `down` if it once was not, empty if unknown. */
export function timeline(
  samples: readonly Sample[],
  service: string,
  parts: number,
): ('up' | 'down' | '')[] {
  const end = samples.at(-1)?.time ?? 0;
  const line = Array.from({ length: parts }, (): 'up' | 'down' | '' => '');
  for (const { time, serving } of samples) {
    const state = serving[service];
    const part = parts - 1 - Math.floor((end - time) / (SPAN / parts));
    if (state === undefined || part < 0) continue;
    line[part] = state && line[part] !== 'down' ? 'up' : 'down';
  }
  return line;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
