//! Results for a terminal.

use std::fmt::Write as _;

use super::result::{Plan, Results};

/// Everything that was measured, but for the single seconds, which JSON and the page have.
pub fn table(results: &Results) -> String {
    let mut text = format!("{}\n\n", heading(results));
    let latency = &results.latency;
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
    let percentiles = latency.percentiles.iter();
    let mut head = vec!["latency".to_owned(), "min".into(), "mean".into()];
    head.extend(
        percentiles
            .clone()
            .map(|one| format!("p{}", one.percentile)),
    );
    head.push("max".into());
    table.set_header(head);
    let mut row = vec![
        "ms".to_owned(),
        shown(latency.minimum_ms),
        shown(latency.mean_ms),
    ];
    row.extend(percentiles.map(|one| shown(one.ms)));
    row.push(shown(latency.maximum_ms));
    table.add_row(row);
    if latency.calls > 0 {
        let _ = writeln!(text, "{}\n", table.trim_fmt());
    }
    if !results.failures.is_empty() {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header(["failed", "calls", "the first message"]);
        for one in &results.failures {
            table.add_row([&one.status, &one.calls.to_string(), &one.message]);
        }
        let _ = writeln!(text, "{}\n", table.trim_fmt());
    }
    for note in &results.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

/// What was sent where, and how many calls succeeded.
pub(super) fn heading(results: &Results) -> String {
    let sender = &results.sender;
    let how = match results.schedule {
        Plan::Rate(rate) => format!("{rate}/s wanted, {}/s sent", sender.rate),
        Plan::Users(1) => format!("1 user, {}/s sent", sender.rate),
        Plan::Users(users) => format!("{users} users, {}/s sent", sender.rate),
    };
    format!(
        "{} on {}: {how}, for {} s after {} s of warm-up\n{} calls: {} succeeded ({}/s), {} failed",
        results.call,
        results.target,
        results.seconds,
        results.warm_up,
        results.calls,
        results.succeeded,
        results.throughput,
        results.failed
    )
}

/// Milliseconds with three or more digits.
pub(in crate::bench) fn shown(milliseconds: f64) -> String {
    let decimals = match milliseconds {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{milliseconds:.decimals$}")
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::load::call::{Failure, Status};
    use crate::bench::load::engine::{Load, Measured, Schedule, Sent};
    use crate::bench::load::record::{Record, histogram};

    /// 99 calls of 1 to 99 ms, and one that failed.
    pub(crate) fn sample() -> Results {
        let load = Load {
            schedule: Schedule::Open { rate: 50.0 },
            warm_up: Duration::from_secs(5),
            time: Duration::from_secs(2),
            limit: Duration::from_secs(10),
        };
        let mut record = Record::new();
        for number in 1..100 {
            let at = Duration::from_millis(20 * number);
            record.add(at, Duration::from_millis(number), Ok(()));
        }
        let failure = Failure::new(Status::Grpc(14), "<gone>");
        record.add(Duration::ZERO, Duration::from_millis(500), Err(failure));
        let measured = Measured {
            record,
            sent: Sent {
                calls: 100,
                unsent: 0,
                busy: 0.014,
                late: histogram(),
                abandoned: 0,
            },
            time: load.time,
            early: false,
        };
        let target = "web (10.77.0.10:8080)".to_owned();
        Results::new(target, "GET /<a>".into(), 4, &load, &measured)
    }

    #[test]
    fn all_figures_are_in_the_table() {
        let expected = "\
GET /<a> on web (10.77.0.10:8080): 50/s wanted, 50/s sent, for 2 s after 5 s of warm-up
100 calls: 99 succeeded (47.6/s), 1 failed

| latency | min  | mean | p50  | p75  | p90  | p99  | p99.9 | p99.99 | max  |
|---------|------|------|------|------|------|------|-------|--------|------|
| ms      | 1.00 | 50.0 | 50.0 | 75.0 | 90.0 | 99.0 | 99.0  | 99.0   | 99.0 |

| failed      | calls | the first message |
|-------------|-------|-------------------|
| UNAVAILABLE | 1     | <gone>            |

note: fewer than 10000 calls count, so p99.99 is the maximum
";
        assert_eq!(table(&sample()), expected);
    }
}
