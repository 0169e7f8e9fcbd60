//! Boots as stacked bars: an SVG whose colors are in the page's style.

use std::fmt::Write as _;

use super::html::escaped;
use super::result::Case;
use crate::boot::STAGES;

/// In the chart's own units.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 70.0;
const ROW: f64 = 34.0;
const BAR: f64 = 22.0;
const TOP: f64 = 40.0;
/// What the time of each stage is spent on, and where these words begin.
const WORDS: [(&str, f64); 4] = [
    ("firmware", 0.0),
    ("boot loader, kernel unpacks itself", 100.0),
    ("kernel", 355.0),
    ("userspace, to SSH", 440.0),
];

/// Medians of when each stage was reached; a stage without a trace gets the value of the stage before it.
fn ends(case: &Case) -> Vec<f64> {
    let mut last = 0.0;
    (0..STAGES.len())
        .map(|stage| {
            last = case
                .reached(stage)
                .map_or(last, |spread| spread.median.max(last));
            last
        })
        .collect()
}

/// One bar for each case; a stage's rectangle has the class `s0` to `s3`.
pub(super) fn chart(cases: &[Case]) -> String {
    let longest = cases
        .iter()
        .filter_map(|case| ends(case).last().copied())
        .fold(1.0, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / longest;
    let bottom = TOP + ROW * cases.len() as f64;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"stacked bars of boot stages\">",
        bottom + 30.0
    );
    for (stage, (word, at)) in WORDS.iter().enumerate() {
        let x = LEFT + at;
        let _ = write!(
            svg,
            "<rect class=\"s{stage}\" x=\"{x}\" y=\"6\" width=\"13\" height=\"13\"/><text x=\"{}\" y=\"17\">{word}</text>",
            x + 19.0
        );
    }
    let step = if longest > 12.0 { 5.0 } else { 1.0 };
    for tick in 0..=(longest / step) as usize {
        let second = tick as f64 * step;
        let x = LEFT + second * scale;
        let _ = write!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{}\">{second} s</text>",
            bottom + 4.0,
            bottom + 20.0
        );
    }
    for (index, case) in cases.iter().enumerate() {
        bar(&mut svg, case, TOP + ROW * index as f64, scale);
    }
    svg + "</svg>"
}

fn bar(svg: &mut String, case: &Case, y: f64, scale: f64) {
    let middle = y + BAR / 2.0 + 5.0;
    let _ = write!(
        svg,
        "<text class=\"name\" x=\"{}\" y=\"{middle}\">{}</text>",
        LEFT - 10.0,
        escaped(&case.name)
    );
    let mut from = 0.0;
    for (stage, end) in ends(case).into_iter().enumerate() {
        let _ = write!(
            svg,
            "<rect class=\"s{stage}\" x=\"{:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\">\
             <title>{}: {from:.2} s to {end:.2} s</title></rect>",
            LEFT + from * scale,
            (end - from) * scale,
            WORDS[stage].0
        );
        from = end;
    }
    let label = match case.failures().len() {
        failed if failed == case.runs.len() => "failed".to_owned(),
        _ => format!("{from:.2} s"),
    };
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"{middle}\">{label}</text>",
        LEFT + from * scale + 6.0
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::Run;
    use crate::boot::Times;
    use crate::firmware::Reported;

    #[test]
    fn bars_are_as_long_as_their_stages() {
        let mut case = Case::new("seabios-disk", "firmware: seabios");
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let times = Times {
            firmware: seconds(1),
            kernel: seconds(2),
            init: None,
            ssh: seconds(10),
        };
        case.runs.push(Run::booted(times, &Reported::default()));
        assert_eq!(ends(&case), [1.0, 2.0, 2.0, 10.0]);
        let svg = chart(&[case]);
        // 740 units for ten seconds.
        assert!(
            svg.contains("width=\"74.0\"") && svg.contains("width=\"592.0\""),
            "{svg}"
        );
        assert!(svg.contains(">10.00 s<"));
    }

    #[test]
    fn a_case_that_never_booted_is_marked_as_failed() {
        let mut case = Case::new("uefi-disk", "firmware: uefi");
        case.runs.push(Run::failed(&anyhow::anyhow!("no answer")));
        assert!(chart(&[case]).contains(">failed<"));
    }
}
