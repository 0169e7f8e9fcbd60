//! Results as one self-contained HTML page: a chart and a table for each operation.

use std::fmt::Write as _;

use super::Capabilities;
use super::chart::chart;
use super::kinds::{Operation, Protocol};
use super::result::Results;
use super::table::{head, row};
use crate::bench::html::{document, escaped, table};

/// The whole page.
pub fn page(results: &Results) -> String {
    let mut body = format!(
        "<p>{}.</p><p>Calls a second are the median of the rounds, each caller calls again when its last call is answered. \
         Bytes are those of the TCP streams for one call, with TLS, without handshakes.</p>",
        escaped(&results.heading())
    );
    let head = head(results);
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    for operation in Operation::ALL {
        let rows = Protocol::ALL.into_iter();
        let rows = rows.map(|protocol| cells(row(results, protocol, operation), "n"));
        let _ = write!(
            body,
            "<h2>{operation}</h2>\n{}\n{}\n",
            chart(results, operation),
            table(&head, &rows.collect::<String>())
        );
    }
    let rows = results.capabilities.iter();
    let rows = rows.map(|one| cells(one.cells().to_vec(), ""));
    let _ = write!(
        body,
        "<h2>What each can do</h2>\n{}\n",
        table(&Capabilities::HEAD, &rows.collect::<String>())
    );
    document("Protocols compared", &body)
}

fn cells(row: Vec<String>, class: &str) -> String {
    let mut cells = row.iter();
    let name = cells.next().map(|name| escaped(name)).unwrap_or_default();
    let cells = cells.map(|cell| format!("<td class=\"{class}\">{}</td>", escaped(cell)));
    format!("<tr><th>{name}</th>{}</tr>", cells.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::protocol::table::tests::sample;

    #[test]
    fn everything_is_shown_and_text_is_escaped() {
        let html = page(&sample());
        assert!(
            html.contains("&lt;host&gt;") && !html.contains("<host>"),
            "{html}"
        );
        assert_eq!(html.matches("<svg ").count(), Operation::ALL.len());
        assert_eq!(html.matches("<table>").count(), Operation::ALL.len() + 1);
        assert!(html.contains("<th>WebSocket, protobuf</th>"), "{html}");
        // It loads nothing.
        assert!(
            !html.contains("http://") && !html.contains("https://"),
            "{html}"
        );
    }
}
