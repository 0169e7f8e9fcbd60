//! Results as one self-contained HTML page: charts, and the tables below.

use std::fmt::Write as _;

use super::chart;
use super::result::Results;
use super::table::{heading, shown};
use crate::bench::html::{document, escaped, table};

/// The whole page.
pub fn page(results: &Results) -> String {
    let paragraphs = heading(results);
    let mut body = String::new();
    for line in paragraphs.lines() {
        let _ = write!(body, "<p>{}.</p>", escaped(line));
    }
    let _ = write!(
        body,
        "<h2>Latency in milliseconds</h2>\n<p>From the intended time of each call, of calls that succeeded or got no answer in \
         time.</p>\n{}\n{}\n<h2>Latency by second</h2>\n{}\n<h2>Calls by second</h2>\n{}\n",
        latency(results),
        chart::percentiles(&results.latency.curve),
        chart::latencies(&results.per_second, 0.0, &[]),
        chart::calls(&results.per_second, 0.0, &[]),
    );
    if !results.failures.is_empty() {
        let _ = write!(body, "<h2>Failed calls</h2>\n{}\n", failures(results));
    }
    if !results.notes.is_empty() {
        let notes = results.notes.iter();
        let notes: String = notes
            .map(|note| format!("<li>{}</li>", escaped(note)))
            .collect();
        let _ = write!(body, "<h2>Notes</h2>\n<ul>{notes}</ul>\n");
    }
    document("Load", &body)
}

fn latency(results: &Results) -> String {
    let latency = &results.latency;
    let names = latency.percentiles.iter();
    let names: Vec<String> = names.map(|one| format!("p{}", one.percentile)).collect();
    let mut head = vec!["calls", "minimum", "mean"];
    head.extend(names.iter().map(String::as_str));
    head.push("maximum");
    let mut values = vec![latency.minimum_ms, latency.mean_ms];
    values.extend(latency.percentiles.iter().map(|one| one.ms));
    values.push(latency.maximum_ms);
    let cells = values
        .into_iter()
        .map(|ms| format!("<td class=\"n\">{}</td>", shown(ms)));
    let cells: String = cells.collect();
    table(
        &head,
        &format!("<tr><th>{}</th>{cells}</tr>", latency.calls),
    )
}

fn failures(results: &Results) -> String {
    let mut rows = String::new();
    for one in &results.failures {
        let _ = write!(
            rows,
            "<tr><th>{}</th><td class=\"n\">{}</td><td>{}</td></tr>",
            escaped(&one.status),
            one.calls,
            escaped(&one.message)
        );
    }
    table(&["status", "calls", "the first message"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::table::tests::sample;

    #[test]
    fn everything_is_shown_and_text_is_escaped() {
        let html = page(&sample());
        assert!(
            html.contains("GET /&lt;a&gt;") && !html.contains("<a>"),
            "{html}"
        );
        assert!(
            html.contains("&lt;gone&gt;") && !html.contains("<gone>"),
            "{html}"
        );
        assert!(html.contains("<th>UNAVAILABLE</th>"), "{html}");
        assert_eq!(html.matches("<svg ").count(), 3);
        // It loads nothing.
        assert!(
            !html.contains("http://") && !html.contains("https://"),
            "{html}"
        );
    }
}
