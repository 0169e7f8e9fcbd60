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
        "{} of {}: {how}, for {} s after {} s of warm-up\n{} calls: {} succeeded ({}/s), {} failed",
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
pub(super) fn shown(milliseconds: f64) -> String {
    let decimals = match milliseconds {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{milliseconds:.decimals$}")
}
