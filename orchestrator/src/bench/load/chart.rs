//! Lines and columns as SVG: calls and latencies by second, and latency by percentile.

use std::fmt::Write as _;

use super::result::{PerSecond, Percentile};
use super::table::shown;
use crate::bench::html::escaped;

/// In the chart's own units.
pub(crate) const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 240.0;
pub(crate) const LEFT: f64 = 70.0;
pub(crate) const RIGHT: f64 = 20.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 30.0;

/// A time that is marked in a chart.
#[derive(Clone, Debug)]
pub(crate) struct Band {
    /// In seconds.
    pub from: f64,
    pub to: f64,
    /// In plain text.
    pub label: String,
}

/// A chart's axes and what is drawn so far.
struct Chart {
    svg: String,
    /// The values at the right and at the top.
    across: f64,
    up: f64,
}

impl Chart {
    fn new(label: &str, across: f64, up: f64) -> Chart {
        let mut chart = Chart {
            svg: format!(
                "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\">"
            ),
            across: across.max(f64::MIN_POSITIVE),
            up: round_up(up),
        };
        for part in 0..=4 {
            let value = chart.up * f64::from(part) / 4.0;
            let y = chart.y(value);
            let _ = write!(
                chart.svg,
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\"/>\
                 <text class=\"name\" x=\"{}\" y=\"{:.1}\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0,
                plain(value)
            );
        }
        chart
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + value / self.across * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - value / self.up * (HEIGHT - TOP - BOTTOM)
    }

    /// Over what is drawn so far.
    fn bands(&mut self, bands: &[Band]) {
        for band in bands {
            let x = self.x(band.from);
            let _ = write!(
                self.svg,
                "<rect class=\"band\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{}\"><title>{}</title></rect>",
                (self.x(band.to) - x).max(1.0),
                HEIGHT - TOP - BOTTOM,
                escaped(&band.label)
            );
        }
    }

    fn tick(&mut self, at: f64, text: &str) {
        let _ = write!(
            self.svg,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{}\">{text}</text>",
            self.x(at),
            HEIGHT - BOTTOM + 18.0
        );
    }

    /// Each class with its word.
    fn legend(&mut self, words: &[(&str, &str)]) {
        let mut x = LEFT;
        for (class, word) in words {
            let _ = write!(
                self.svg,
                "<rect class=\"{class}\" x=\"{x}\" y=\"6\" width=\"13\" height=\"13\"/><text x=\"{}\" y=\"17\">{word}</text>",
                x + 19.0
            );
            x += 40.0 + 8.0 * word.len() as f64;
        }
    }

    fn line(&mut self, class: usize, points: impl Iterator<Item = (f64, f64)>) {
        let points = points.map(|(x, y)| format!("{:.1},{:.1}", self.x(x), self.y(y)));
        let points = points.collect::<Vec<_>>().join(" ");
        let _ = write!(
            self.svg,
            "<polyline class=\"l{class}\" points=\"{points}\"/>"
        );
    }

    fn done(self) -> String {
        self.svg + "</svg>"
    }
}

/// The calls of each second: succeeded, and failed above.
pub(crate) fn calls(seconds: &[PerSecond], across: f64, bands: &[Band]) -> String {
    let most = seconds.iter().map(|one| one.succeeded + one.failed).max();
    let count = across.max(seconds.len() as f64);
    let mut chart = Chart::new("calls by second", count, most.unwrap_or(0) as f64);
    chart.legend(&[("s0", "succeeded"), ("bad", "failed")]);
    for one in seconds {
        let mut below = 0;
        for (class, calls) in ["s0", "bad"].into_iter().zip([one.succeeded, one.failed]) {
            let (from, to) = (below, below + calls);
            let (x, y) = (chart.x(one.second as f64), chart.y(to as f64));
            let _ = write!(
                chart.svg,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\">\
                 <title>second {}: {} succeeded, {} failed</title></rect>",
                chart.x(one.second as f64 + 0.9) - x,
                chart.y(from as f64) - y,
                one.second,
                one.succeeded,
                one.failed
            );
            below = to;
        }
    }
    chart.bands(bands);
    ticks(&mut chart, count);
    chart.done()
}

/// Median, 99th percentile and maximum of each second, in milliseconds.
pub(crate) fn latencies(seconds: &[PerSecond], across: f64, bands: &[Band]) -> String {
    let most = seconds.iter().map(|one| one.maximum_ms).fold(0.0, f64::max);
    let count = across.max(seconds.len() as f64);
    let mut chart = Chart::new("latency by second", count, most);
    chart.legend(&[("s0", "p50"), ("s1", "p99"), ("s2", "maximum")]);
    let values: [fn(&PerSecond) -> f64; 3] =
        [|one| one.p50_ms, |one| one.p99_ms, |one| one.maximum_ms];
    // A second without a latency is a gap.
    let measured = |one: &PerSecond| one.maximum_ms > 0.0;
    let parts = seconds.chunk_by(|one, next| measured(one) && measured(next));
    for part in parts.filter(|part| part.iter().all(measured)) {
        for (class, value) in values.into_iter().enumerate() {
            let points = part.iter();
            chart.line(
                class,
                points.map(|one| (one.second as f64 + 0.5, value(one))),
            );
        }
    }
    chart.bands(bands);
    ticks(&mut chart, count);
    chart.done()
}

/// Latency in milliseconds by percentile; each nine has the same width.
pub(super) fn percentiles(curve: &[Percentile]) -> String {
    let nines = |percentile: f64| -((100.0 - percentile) / 100.0).log10();
    let most = curve.iter().map(|one| one.ms).fold(0.0, f64::max);
    let across = curve.last().map_or(1.0, |one| nines(one.percentile));
    let mut chart = Chart::new("latency by percentile", across, most);
    chart.line(0, curve.iter().map(|one| (nines(one.percentile), one.ms)));
    for percentile in [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999] {
        if nines(percentile) <= across {
            chart.tick(nines(percentile), &format!("p{percentile}"));
        }
    }
    chart.done()
}

fn ticks(chart: &mut Chart, seconds: f64) {
    let steps = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0];
    let step = steps.into_iter().find(|step| step * 10.0 >= seconds);
    let step = step.unwrap_or(3600.0);
    let mut at = 0.0;
    while at <= seconds {
        chart.tick(at, &format!("{at} s"));
        at += step;
    }
}

/// The next value whose quarters have few digits.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0, 10.0];
    let step = steps.into_iter().find(|step| step * power >= value);
    step.unwrap_or(10.0) * power
}

fn plain(value: f64) -> String {
    match value {
        value if value.fract() == 0.0 => format!("{value:.0}"),
        value => shown(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_values() {
        for (value, end) in [
            (0.0, 1.0),
            (0.3, 0.32),
            (1.0, 1.0),
            (43.0, 60.0),
            (801.0, 1000.0),
            (1100.0, 1200.0),
        ] {
            assert!((round_up(value) - end).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn columns_are_as_high_as_their_calls() {
        let second = |second, succeeded, failed| PerSecond {
            second,
            succeeded,
            failed,
            p50_ms: 1.0,
            p99_ms: 2.0,
            maximum_ms: 4.0,
        };
        let svg = calls(&[second(0, 100, 0), second(1, 25, 75)], 0.0, &[]);
        // 180 units for 100 calls.
        assert_eq!(svg.matches("height=\"180.0\"").count(), 1, "{svg}");
        assert!(
            svg.contains("class=\"bad\" x=\"505.0\" y=\"30.0\" width=\"391.5\" height=\"135.0\""),
            "{svg}"
        );
        let svg = latencies(&[second(0, 100, 0), second(1, 25, 75)], 0.0, &[]);
        assert!(
            svg.contains("<polyline class=\"l2\" points=\"287.5,30.0 722.5,30.0\"/>"),
            "{svg}"
        );
    }
}
