//! Calls a second as bars: an SVG for each operation, whose colors are in the page's style.

use std::fmt::Write as _;

use super::kinds::{Operation, Protocol};
use super::result::Results;
use super::table::rate;

/// In the chart's own units.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 160.0;
const RIGHT: f64 = 80.0;
const TOP: f64 = 30.0;
const BAR: f64 = 14.0;
const GAP: f64 = 10.0;
/// The number of colors of the style.
const CLASSES: usize = 4;

/// A group for each protocol, with a bar for each number of callers (`s0` to `s3`).
pub(super) fn chart(results: &Results, operation: Operation) -> String {
    let callers = results.callers();
    let groups = Protocol::ALL.map(|protocol| (protocol, results.of(protocol, operation)));
    let rates = groups.iter().flat_map(|(_, cases)| cases);
    let most = rates
        .map(|case| case.rate())
        .fold(f64::MIN_POSITIVE, f64::max);
    let group = BAR * callers.len() as f64 + GAP;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"calls a second of each protocol\">",
        TOP + group * groups.len() as f64
    );
    for (index, callers) in callers.iter().enumerate() {
        let x = LEFT + 130.0 * index as f64;
        let word = if *callers == 1 { "caller" } else { "callers" };
        let _ = write!(
            svg,
            "<rect class=\"s{}\" x=\"{x}\" y=\"6\" width=\"13\" height=\"13\"/><text x=\"{}\" y=\"17\">{callers} {word}</text>",
            index % CLASSES,
            x + 19.0
        );
    }
    for (index, (protocol, cases)) in groups.iter().enumerate() {
        let top = TOP + group * index as f64;
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"{}\" y=\"{:.1}\">{protocol}</text>",
            LEFT - 10.0,
            top + (group - GAP) / 2.0 + 5.0
        );
        if cases.is_empty() {
            let _ = write!(
                svg,
                "<text x=\"{LEFT}\" y=\"{:.1}\">-</text>",
                top + (group - GAP) / 2.0 + 5.0
            );
        }
        for (index, case) in cases.iter().enumerate() {
            let (y, width) = (
                top + BAR * index as f64,
                case.rate() / most * (WIDTH - LEFT - RIGHT),
            );
            let _ = write!(
                svg,
                "<rect class=\"s{}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                index % CLASSES,
                LEFT + width + 6.0,
                y + BAR - 2.5,
                rate(case.rate())
            );
        }
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::protocol::table::tests::sample;

    #[test]
    fn bars_are_as_long_as_their_rates() {
        let mut results = sample();
        results.cases[0].throughput = vec![500.0];
        let svg = chart(&results, Operation::UnarySmall);
        // Six protocols with two bars each, 720 units for 2,000 calls a second; the first case has 16 callers.
        assert_eq!(svg.matches("width=\"720.0\"").count(), 11, "{svg}");
        assert!(
            svg.contains("class=\"s1\" x=\"160\" y=\"44.0\" width=\"180.0\""),
            "{svg}"
        );
        let svg = chart(&results, Operation::Bidirectional);
        assert_eq!(svg.matches(">-</text>").count(), 3, "{svg}");
    }
}
