//! Results as one self-contained HTML page: the chart, and the tables below.

use std::fmt::Write as _;

use super::chart::chart;
use super::html::{document, escaped, table};
use super::result::{Case, Results, Row};
use super::settings::Settings;
use crate::boot::STAGES;
use crate::libvirt::Medium;

/// The whole page.
pub fn page(results: &Results) -> String {
    let runs = match results.cases.first().map_or(0, |case| case.runs.len()) {
        1 => "one run each".to_owned(),
        runs => format!("medians of {runs} runs"),
    };
    let body = format!(
        "<p>One image, booted in turn under each firmware and boot path, from power on to an answer by SSH; {runs}. \
         Host: {}.</p>\n{}\n<h2>Seconds since power on</h2>\n<p>Minimum / <b>median</b> / maximum.</p>\n{}\n\
         <h2>Side by side</h2>\n{}\n<h2>Boots from</h2>\n<p>Each medium as the only one. A cell is <b>yes</b> where the boot \
         loader on it reported that, with the time since power on.</p>\n{}\n<h2>What can be set</h2>\n{}\n",
        escaped(&results.host),
        chart(&results.cases),
        boots(&results.cases),
        comparisons(results),
        compatibility(&results.compatibility),
        settings(&results.settings),
    );
    document("Firmware compared", &body)
}

fn boots(cases: &[Case]) -> String {
    let mut head = vec!["case"];
    head.extend(STAGES);
    head.extend(["the guest reports", "in the topology", "failed"]);
    let mut rows = String::new();
    for case in cases {
        let _ = write!(rows, "<tr><th>{}</th>", escaped(&case.name));
        for stage in 0..STAGES.len() {
            let cell = case.reached(stage).map_or("-".to_owned(), |spread| {
                let (minimum, maximum) = (spread.minimum, spread.maximum);
                format!("{minimum:.2} / <b>{:.2}</b> / {maximum:.2}", spread.median)
            });
            let _ = write!(rows, "<td class=\"n\">{cell}</td>");
        }
        let failures = case.failures();
        let _ = write!(
            rows,
            "<td>{}</td><td><code>{}</code></td><td title=\"{}\">{}</td></tr>",
            escaped(case.firmware()),
            escaped(&case.topology),
            escaped(failures.first().unwrap_or(&"")),
            failures.len()
        );
    }
    table(&head, &rows)
}

fn comparisons(results: &Results) -> String {
    let text = results.comparisons();
    let items = text
        .lines()
        .map(|line| format!("<li>{}</li>", escaped(line)));
    format!("<ul>{}</ul>", items.collect::<String>())
}

fn compatibility(rows: &[Row]) -> String {
    let mut head = vec!["firmware"];
    head.extend(Medium::ALL.map(Medium::word));
    let mut cells = String::new();
    for row in rows {
        let _ = write!(cells, "<tr><th>{}</th>", escaped(&row.firmware));
        for one in &row.tries {
            let class = if one.boots { "yes" } else { "no" };
            let _ = write!(
                cells,
                "<td class=\"{class}\" title=\"{}\">{}</td>",
                escaped(&one.last_words),
                one.word()
            );
        }
        cells.push_str("</tr>");
    }
    table(&head, &cells)
}

fn settings(settings: &[Settings]) -> String {
    let mut rows = String::new();
    for one in settings {
        let lines = one
            .in_topology
            .iter()
            .map(|line| format!("<code>{}</code>", escaped(line)));
        let _ = write!(
            rows,
            "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
            one.firmware,
            lines.collect::<Vec<_>>().join("<br>"),
            escaped(&one.of_its_own),
            escaped(one.a_change_takes)
        );
    }
    table(
        &[
            "firmware",
            "in the topology",
            "of its own",
            "a change takes",
        ],
        &rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Run;
    use crate::bench::result::{Reached, Try};
    use crate::bench::settings;
    use crate::boot::Times;
    use crate::firmware::Reported;

    #[test]
    fn everything_is_shown_and_text_is_escaped() {
        let mut case = Case::new("seabios-disk", "firmware: seabios");
        let reported = Reported {
            vendor: "<script>".into(),
            ..Reported::default()
        };
        case.runs.push(Run::booted(Times::default(), &reported));
        let tries = vec![Try {
            medium: Medium::Usb,
            boots: false,
            reached: Reached::NothingFound,
            seconds: 3.0,
            last_words: "<script>".into(),
        }];
        let row = Row {
            firmware: "uefi".into(),
            tries,
        };
        let html = page(&Results {
            host: "<script>".into(),
            cases: vec![case],
            compatibility: vec![row],
            settings: settings::all(),
        });
        assert!(!html.contains("<script>") && html.contains("&lt;script&gt;"));
        assert!(html.contains(">no: found nothing<"), "{html}");
        assert!(html.contains("payload: linux"), "{html}");
    }
}
