//! What counts: latencies, failures by status, and both by second.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::call::{Failure, Status};

/// Of latencies in nanoseconds, to three digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are valid")
}

pub(super) fn add(histogram: &mut Histogram<u64>, time: Duration) {
    let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    // A histogram that grows takes every value.
    let _ = histogram.record(nanoseconds);
}

/// The calls of one second, by the time for which they were intended.
#[derive(Clone)]
pub(super) struct Second {
    pub ok: u64,
    pub failed: u64,
    /// In microseconds, to two digits.
    pub latency: Histogram<u32>,
}

/// The measured calls.
pub(super) struct Record {
    pub ok: u64,
    pub failed: u64,
    /// Of calls that succeeded or got no answer in time: those waited at least so long.
    pub latency: Histogram<u64>,
    pub seconds: Vec<Second>,
    /// How often each happened, and the first message.
    pub failures: BTreeMap<Status, (u64, String)>,
    /// From the start of the measurement to the last answer.
    pub last: Duration,
    /// Each call, where they are kept.
    calls: Option<Vec<Timed>>,
}

/// One call, and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed {
    /// When it was intended, from the start of the measurement.
    pub at: Duration,
    /// From then to its end.
    pub latency: Duration,
    pub end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Succeeded,
    /// Without an answer in time: its latency counts.
    TimedOut,
    Failed,
}

impl Record {
    pub(super) fn new() -> Record {
        Record {
            ok: 0,
            failed: 0,
            latency: histogram(),
            seconds: Vec::new(),
            failures: BTreeMap::new(),
            last: Duration::ZERO,
            calls: None,
        }
    }

    pub(super) fn traced() -> Record {
        Record {
            calls: Some(Vec::new()),
            ..Record::new()
        }
    }

    pub(super) fn calls(&self) -> &[Timed] {
        self.calls.as_deref().unwrap_or_default()
    }

    /// A call that was intended `at` after the start of the measurement.
    pub(super) fn add(&mut self, at: Duration, latency: Duration, result: Result<(), Failure>) {
        self.last = self.last.max(at + latency);
        if let Some(calls) = &mut self.calls {
            let end = match &result {
                Ok(()) => End::Succeeded,
                Err(failure) if failure.status == Status::TimedOut => End::TimedOut,
                Err(_) => End::Failed,
            };
            calls.push(Timed { at, latency, end });
        }
        let second = self.second(at.as_secs());
        let counts = !matches!(&result, Err(failure) if failure.status != Status::TimedOut);
        if counts {
            let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
            // The same holds for this one.
            let _ = second.latency.record(microseconds);
        }
        match result {
            Ok(()) => {
                second.ok += 1;
                self.ok += 1;
            }
            Err(failure) => {
                second.failed += 1;
                self.failed += 1;
                let entry = self.failures.entry(failure.status);
                entry.or_insert((0, failure.message)).0 += 1;
            }
        }
        if counts {
            add(&mut self.latency, latency);
        }
    }

    fn second(&mut self, index: u64) -> &mut Second {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        while self.seconds.len() <= index {
            self.seconds.push(Second {
                ok: 0,
                failed: 0,
                latency: Histogram::new(2).expect("two digits are valid"),
            });
        }
        &mut self.seconds[index]
    }
}
