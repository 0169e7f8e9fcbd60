//! Results for a terminal.

use std::fmt::Write as _;

use super::kinds::{Operation, Protocol};
use super::result::{Case, Results};
use crate::bench::load::shown;
use crate::bench::tables::table as drawn;

/// Everything but the rounds, the other percentiles and the connections, which JSON has.
pub fn table(results: &Results) -> String {
    let mut text = format!("{}\n", results.heading());
    let head = head(results);
    for operation in Operation::ALL {
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        let rows = Protocol::ALL.into_iter();
        let rows = rows.map(|protocol| row(results, protocol, operation));
        let _ = write!(text, "\n{operation}\n\n{}\n", drawn(&head, rows));
    }
    let rows = results.capabilities.iter();
    let rows = rows.map(|one| one.cells().to_vec());
    let head = super::Capabilities::HEAD;
    let _ = write!(text, "\nWhat each can do\n\n{}\n", drawn(&head, rows));
    text
}

/// The columns of an operation's table.
pub(super) fn head(results: &Results) -> Vec<String> {
    let mut head = vec![
        "protocol".to_owned(),
        "bytes sent".into(),
        "received".into(),
    ];
    for callers in results.callers() {
        let word = if callers == 1 { "caller" } else { "callers" };
        head.push(format!("{callers} {word}: p50 / p99 ms"));
        head.push("calls/s".into());
    }
    let most = results
        .callers()
        .into_iter()
        .next_back()
        .unwrap_or_default();
    head.push(format!("CPU s per 1,000 calls at {most}: caller"));
    head.push("server".into());
    head
}

/// A protocol's cells. Bytes are those of the fewest callers, where a call is alone on its connection.
pub(super) fn row(results: &Results, protocol: Protocol, operation: Operation) -> Vec<String> {
    let mut cells = vec![protocol.to_string()];
    let cases = results.of(protocol, operation);
    let (Some(fewest), Some(most)) = (cases.first(), cases.last()) else {
        cells.resize(head(results).len(), "-".to_owned());
        return cells;
    };
    cells.push(grouped(fewest.sent_bytes));
    cells.push(grouped(fewest.received_bytes));
    for case in &cases {
        let Case { p50_ms, p99_ms, .. } = case;
        cells.push(format!("{} / {}", shown(*p50_ms), shown(*p99_ms)));
        cells.push(rate(case.rate()));
    }
    cells.push(cpu(most.caller_cpu_seconds));
    cells.push(cpu(most.server_cpu_seconds));
    cells
}

/// With three digits or more.
pub(super) fn rate(rate: f64) -> String {
    match rate {
        100.0.. => grouped(rate),
        _ => shown(rate),
    }
}

fn cpu(seconds: f64) -> String {
    match seconds {
        10.0.. => format!("{seconds:.1}"),
        1.0.. => format!("{seconds:.2}"),
        _ => format!("{seconds:.3}"),
    }
}

/// A whole number with a comma between each three digits.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::protocol::Plan;
    use crate::bench::protocol::capabilities::{CAPABILITIES, NO};

    /// Every case that exists, of which the first one has easy figures.
    pub(in crate::bench::protocol) fn sample() -> Results {
        let plan = Plan {
            rounds: 3,
            time: Duration::from_millis(1500),
            callers: vec![1, 16],
        };
        let mut cases = Vec::new();
        for operation in Operation::ALL {
            for protocol in Protocol::ALL {
                let own = CAPABILITIES.iter().find(|one| one.protocol == protocol);
                if operation == Operation::Bidirectional && own.unwrap().bidirectional == NO {
                    continue;
                }
                cases.extend([16, 1].map(|callers| Case {
                    protocol,
                    operation,
                    callers,
                    connections: 1,
                    calls: 3000,
                    p50_ms: 0.5,
                    p90_ms: 0.75,
                    p99_ms: 12.0,
                    maximum_ms: 100.0,
                    throughput: vec![3000.0, 1000.0, 2000.0],
                    sent_bytes: 100.0,
                    received_bytes: 1_234_567.0,
                    caller_cpu_seconds: 0.25,
                    server_cpu_seconds: 12.5,
                }));
            }
        }
        Results::new("<host>".to_owned(), "Between two guests", &plan, cases)
    }

    #[test]
    fn a_row_has_every_column_and_what_does_not_exist_is_marked() {
        let results = sample();
        assert_eq!(
            row(&results, Protocol::Grpc, Operation::UnarySmall),
            [
                "gRPC",
                "100",
                "1,234,567",
                "0.50 / 12.0",
                "2,000",
                "0.50 / 12.0",
                "2,000",
                "0.250",
                "12.5"
            ]
        );
        let none = row(&results, Protocol::Soap, Operation::Bidirectional);
        assert_eq!(none[..2], ["SOAP 1.2", "-"]);
        assert_eq!(none.len(), head(&results).len());
        let text = table(&results);
        assert!(
            text.starts_with("Between two guests, mutual TLS, 3 rounds of 1.5 s"),
            "{text}"
        );
        assert!(text.contains("16 callers: p50 / p99 ms"), "{text}");
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0.0, "0"), (999.6, "1,000"), (65_536.0, "65,536")] {
            assert_eq!(grouped(number), text);
        }
    }
}
