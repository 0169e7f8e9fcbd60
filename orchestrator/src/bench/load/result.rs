//! What was measured as figures, as JSON has them. Times are in milliseconds where a name says so, else in seconds.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::engine::{Load, Measured, Schedule};
use super::record::Second;
use crate::event::seconds;

/// In per cent; the maximum is a figure of its own.
pub(super) const PERCENTILES: [f64; 6] = [50.0, 75.0, 90.0, 99.0, 99.9, 99.99];
/// A sender that is later than this is behind its schedule, in milliseconds.
const BEHIND: f64 = 10.0;
/// A sender that is busy for more than this share of the time is the reason for that.
const BUSY: f64 = 0.8;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Results {
    /// The domain, and the address and port that the load went to.
    pub target: String,
    /// The method, or the HTTP request.
    pub call: String,
    pub schedule: Plan,
    pub warm_up: f64,
    /// The time in which the measured calls were sent.
    pub seconds: f64,
    pub connections: usize,
    /// Whether the run ended before its time, by a signal.
    pub ended_early: bool,
    /// Measured calls that ended.
    pub calls: u64,
    pub succeeded: u64,
    pub failed: u64,
    /// Successful calls a second, until the last answer.
    pub throughput: f64,
    /// Of calls that succeeded, and of those without an answer in time; from the intended time of each.
    pub latency: Latency,
    pub failures: Vec<Failures>,
    pub sender: Sender,
    pub per_second: Vec<PerSecond>,
    /// What else a reader must know about the figures.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plan {
    /// Calls a second.
    Rate(f64),
    Users(usize),
}

/// In milliseconds; zero if no call counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    pub calls: u64,
    pub minimum_ms: f64,
    pub mean_ms: f64,
    pub percentiles: Vec<Percentile>,
    pub maximum_ms: f64,
    /// More percentiles, for a chart.
    pub curve: Vec<Percentile>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentile {
    /// In per cent.
    pub percentile: f64,
    pub ms: f64,
}

/// The calls that ended in the same way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failures {
    pub status: String,
    pub calls: u64,
    /// Of the first of them.
    pub message: String,
}

/// How well pspd kept to its schedule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sender {
    pub sent: u64,
    /// Calls a second.
    pub rate: f64,
    /// Due in the measured time, and not sent.
    pub unsent: u64,
    /// The share of the time in which its thread ran or waited for a processor.
    pub busy: f64,
    /// How much later than intended: the 99th percentile and the maximum.
    pub late_p99_ms: f64,
    pub late_maximum_ms: f64,
    /// In flight at a signal, and abandoned.
    pub abandoned: u64,
}

/// Calls by the second for which they were intended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PerSecond {
    pub second: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub maximum_ms: f64,
}

impl Results {
    pub fn new(
        target: String,
        call: String,
        connections: usize,
        load: &Load,
        measured: &Measured,
    ) -> Results {
        let record = &measured.record;
        let failures = record
            .failures
            .iter()
            .map(|(status, (calls, message))| Failures {
                status: status.to_string(),
                calls: *calls,
                message: message.clone(),
            });
        let mut failures: Vec<Failures> = failures.collect();
        failures.sort_by_key(|one| std::cmp::Reverse(one.calls));
        let until = measured.time.max(record.last).as_secs_f64();
        let mut results = Results {
            target,
            call,
            schedule: match load.schedule {
                Schedule::Open { rate } => Plan::Rate(rate),
                Schedule::Closed { users } => Plan::Users(users),
            },
            warm_up: seconds(load.warm_up),
            seconds: seconds(measured.time),
            connections,
            ended_early: measured.early,
            calls: record.ok + record.failed,
            succeeded: record.ok,
            failed: record.failed,
            throughput: rounded(per(record.ok, until)),
            latency: Latency::of(&record.latency),
            failures,
            sender: Sender::of(measured),
            per_second: record
                .seconds
                .iter()
                .enumerate()
                .map(PerSecond::of)
                .collect(),
            notes: Vec::new(),
        };
        results.notes = results.noted();
        results
    }

    fn noted(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let sender = &self.sender;
        if let Plan::Rate(wanted) = self.schedule {
            if sender.unsent > 0 || sender.late_p99_ms > BEHIND {
                let cause = match sender.busy > BUSY {
                    true => {
                        "pspd's sending thread was busy all the time: it cannot send faster here"
                    }
                    false => {
                        "as many calls as possible were in flight, because the target answered slowly. `--connections` allows more"
                    }
                };
                notes.push(format!(
                    "the rate of {wanted}/s was not kept: {}/s were sent, {} calls were due and never sent, and 1 % of those sent \
                     were late by {} ms or more. {cause}",
                    sender.rate, sender.unsent, sender.late_p99_ms
                ));
            }
        } else if self.calls > 0 {
            notes.push(
                "users wait for their responses, so a slow target receives fewer calls and the percentiles look better. Use `--rate` \
                 to measure without this effect"
                    .to_owned(),
            );
        }
        if self.ended_early {
            let count = sender.abandoned;
            notes.push(format!(
                "ended early, after {} s; calls in flight that were abandoned: {count}",
                self.seconds
            ));
        }
        let rarest = PERCENTILES[PERCENTILES.len() - 1];
        let needed = (100.0 / (100.0 - rarest)).round() as u64;
        if self.latency.calls < needed {
            notes.push(format!(
                "fewer than {needed} calls count, so p{rarest} is the maximum"
            ));
        }
        notes
    }
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Latency {
        if histogram.is_empty() {
            return Latency::default();
        }
        let at = |percentile: f64| Percentile {
            percentile,
            ms: milliseconds(histogram.value_at_percentile(percentile)),
        };
        Latency {
            calls: histogram.len(),
            minimum_ms: milliseconds(histogram.min()),
            mean_ms: milliseconds(histogram.mean() as u64),
            percentiles: PERCENTILES.map(at).to_vec(),
            maximum_ms: milliseconds(histogram.max()),
            curve: curve(histogram.len()).map(at).collect(),
        }
    }
}

/// Ten percentiles for each nine of them, as long as there are calls beyond.
fn curve(calls: u64) -> impl Iterator<Item = f64> {
    let nines = (calls as f64).log10().ceil().clamp(1.0, 6.0) as i32;
    (0..nines).flat_map(|nine| {
        let beyond = 100.0 / 10f64.powi(nine);
        (0..10).map(move |part| 100.0 - beyond * 10f64.powf(-f64::from(part) / 10.0))
    })
}

impl Sender {
    fn of(measured: &Measured) -> Sender {
        let sent = &measured.sent;
        Sender {
            sent: sent.calls,
            rate: rounded(per(sent.calls, measured.time.as_secs_f64())),
            unsent: sent.unsent,
            busy: (sent.busy * 100.0).round() / 100.0,
            late_p99_ms: milliseconds(sent.late.value_at_percentile(99.0)),
            late_maximum_ms: milliseconds(sent.late.max()),
            abandoned: sent.abandoned,
        }
    }
}

impl PerSecond {
    fn of((second, calls): (usize, &Second)) -> PerSecond {
        let at = |percentile| f64::from(calls.latency.value_at_percentile(percentile) as u32) / 1e3;
        PerSecond {
            second: second as u64,
            succeeded: calls.ok,
            failed: calls.failed,
            p50_ms: at(50.0),
            p99_ms: at(99.0),
            maximum_ms: at(100.0),
        }
    }
}

fn per(calls: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        calls as f64 / seconds
    } else {
        0.0
    }
}

/// To microseconds.
fn milliseconds(nanoseconds: u64) -> f64 {
    (nanoseconds as f64 / 1e3).round() / 1e3
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::sample;

    #[test]
    fn the_json_has_these_keys() {
        let mut results = sample();
        results.latency.curve.truncate(1);
        results.latency.percentiles.truncate(2);
        let json = serde_json::to_value(&results).unwrap();
        insta::assert_json_snapshot!(json, @r#"
        {
          "call": "GET /<a>",
          "calls": 100,
          "connections": 4,
          "ended_early": false,
          "failed": 1,
          "failures": [
            {
              "calls": 1,
              "message": "<gone>",
              "status": "UNAVAILABLE"
            }
          ],
          "latency": {
            "calls": 99,
            "curve": [
              {
                "ms": 1.0,
                "percentile": 0.0
              }
            ],
            "maximum_ms": 99.025,
            "mean_ms": 49.999,
            "minimum_ms": 1.0,
            "percentiles": [
              {
                "ms": 50.004,
                "percentile": 50.0
              },
              {
                "ms": 75.039,
                "percentile": 75.0
              }
            ]
          },
          "notes": [
            "fewer than 10000 calls count, so p99.99 is the maximum"
          ],
          "per_second": [
            {
              "failed": 1,
              "maximum_ms": 49.151,
              "p50_ms": 25.087,
              "p99_ms": 49.151,
              "second": 0,
              "succeeded": 49
            },
            {
              "failed": 0,
              "maximum_ms": 99.327,
              "p50_ms": 74.239,
              "p99_ms": 99.327,
              "second": 1,
              "succeeded": 50
            }
          ],
          "schedule": {
            "rate": 50.0
          },
          "seconds": 2.0,
          "sender": {
            "abandoned": 0,
            "busy": 0.01,
            "late_maximum_ms": 0.0,
            "late_p99_ms": 0.0,
            "rate": 50.0,
            "sent": 100,
            "unsent": 0
          },
          "succeeded": 99,
          "target": "web (10.77.0.10:8080)",
          "throughput": 47.6,
          "warm_up": 5.0
        }
        "#);
    }
}
