//! Parses rates, shares and short times.

use std::time::Duration;

use crate::topology::units;

/// Calls a second: one an hour, and more than any sender reaches.
const SLOWEST: f64 = 1.0 / 3600.0;
const FASTEST: f64 = 1e6;

/// Parses calls by time, such as `200/s`, `200` or `30/min`, as calls a second.
pub fn rate(text: &str) -> Result<f64, String> {
    let hint = || format!("`{text}` is not a valid rate; write it like `200/s`, `200` or `30/min`");
    let (count, unit) = text.split_once('/').unwrap_or((text, "s"));
    let seconds = match unit.trim() {
        "s" => 1.0,
        "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(hint()),
    };
    let count: f64 = count.trim().parse().map_err(|_| hint())?;
    let rate = count / seconds;
    match (SLOWEST..=FASTEST).contains(&rate) {
        true => Ok(rate),
        false => Err(format!("`{text}` is not a rate from 1/h to {FASTEST}/s")),
    }
}

/// Parses a share such as `0%` or `2.5%`, as a number from 0 to 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let number = text
        .strip_suffix('%')
        .map(|text| text.trim().parse::<f64>());
    match number {
        Some(Ok(percent)) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err(format!(
            "`{text}` is not a share from 0% to 100%; write it like `0%` or `2.5%`"
        )),
    }
}

/// Parses a latency such as `250ms` or `2s`.
pub(super) fn latency(text: &str) -> Result<Duration, String> {
    let milliseconds = text
        .trim()
        .strip_suffix("ms")
        .map(|text| text.trim().parse::<u64>());
    match milliseconds {
        Some(Ok(count @ 1..=86_400_000)) => Ok(Duration::from_millis(count)),
        Some(_) => Err(format!(
            "`{text}` is not a valid time; write it like `250ms` or `2s`"
        )),
        None => units::duration(text),
    }
}

/// Parses a time from the start of a phase, such as `0s` or `90s`.
pub(super) fn moment(text: &str) -> Result<Duration, String> {
    match text.trim() {
        "0" | "0s" => Ok(Duration::ZERO),
        _ => units::duration(text),
    }
}
