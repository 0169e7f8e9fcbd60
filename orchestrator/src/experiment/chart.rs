//! The health of each service as bars, and what happened, over the same time as the charts of the load.

use std::fmt::Write as _;

use super::result::{Run, State};
use crate::bench::html::escaped;
use crate::bench::load::chart::{Band, LEFT, RIGHT, WIDTH};

const ROW: f64 = 24.0;
/// Of a service: its name, and the bar below.
const SERVICE: f64 = 38.0;
const NAME: f64 = 17.0;
const BAR: f64 = 14.0;
const TOP: f64 = 26.0;

/// The faults, as the charts of the load mark them.
pub(super) fn bands(run: &Run) -> Vec<Band> {
    let bands = run.faults.iter().map(|fault| Band {
        from: fault.from,
        to: fault.to,
        label: format!("{}: {:.1} s to {:.1} s", fault.fault, fault.from, fault.to),
    });
    bands.collect()
}

/// Phases at the top, then a bar for each event and each service.
pub(super) fn strip(run: &Run, across: f64) -> String {
    let x = |at: f64| LEFT + at.min(across) / across * (WIDTH - LEFT - RIGHT);
    let (events, services) = (run.events.len() as f64, run.health.len() as f64);
    let height = TOP + ROW * events + SERVICE * services + 6.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"phases, events and health of services\">"
    );
    for phase in &run.phases {
        let at = x(phase.from);
        let _ = write!(
            svg,
            "<line class=\"phase\" x1=\"{at:.1}\" y1=\"0\" x2=\"{at:.1}\" y2=\"{height}\"/>\
             <text class=\"left\" x=\"{:.1}\" y=\"14\">{}</text>",
            at + 4.0,
            escaped(&phase.name)
        );
    }
    let mut y = TOP;
    for event in &run.events {
        let class = if event.error.is_some() {
            "down"
        } else {
            "part"
        };
        let (from, to) = (x(event.from), x(event.to));
        bar(
            &mut svg,
            class,
            (from, to),
            y,
            &format!("{}: {:.1} s to {:.1} s", event.what, event.from, event.to),
        );
        // Beside the bar, where there is more room.
        let (class, at) = match from > WIDTH / 2.0 {
            true => ("name", from - 6.0),
            false => ("left", to + 6.0),
        };
        let _ = write!(
            svg,
            "<text class=\"{class}\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
            y + 12.0,
            escaped(&event.what)
        );
        y += ROW;
    }
    for (domain, changes) in &run.health {
        let ends = changes
            .iter()
            .skip(1)
            .map(|change| change.at)
            .chain([across]);
        for (change, end) in changes.iter().zip(ends) {
            let (class, word) = match change.state {
                State::Serving => ("ok", "SERVING"),
                State::NotServing => ("part", "NOT_SERVING"),
                State::Unreachable => ("down", "not reachable"),
            };
            let title = format!("{domain}: {word} from {:.1} s to {end:.1} s", change.at);
            bar(&mut svg, class, (x(change.at), x(end)), y + NAME, &title);
        }
        let _ = write!(
            svg,
            "<text class=\"left\" x=\"{LEFT}\" y=\"{:.1}\">{}</text>",
            y + 12.0,
            escaped(domain)
        );
        y += SERVICE;
    }
    svg + "</svg>"
}

fn bar(svg: &mut String, class: &str, (from, to): (f64, f64), y: f64, title: &str) {
    let _ = write!(
        svg,
        "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\"><title>{}</title></rect>",
        (to - from).max(2.0),
        escaped(title)
    );
}
