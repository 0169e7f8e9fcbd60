//! What was measured, as `protocol-bench call` prints it.

use serde::{Deserialize, Serialize};

use super::capabilities::{CAPABILITIES, Capabilities};
use super::kinds::{Operation, Protocol};
use super::plan::Plan;

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// Its system, processors and, for guests, the accelerator.
    pub host: String,
    /// Where the two sides were.
    pub between: &'static str,
    pub rounds: usize,
    /// For which each case was measured in each round.
    pub seconds: f64,
    pub cases: Vec<Case>,
    pub capabilities: &'static [Capabilities],
}

/// One protocol, operation and number of callers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    pub protocol: Protocol,
    pub operation: Operation,
    pub callers: usize,
    /// The most of a round.
    pub connections: u64,
    pub calls: u64,
    /// Latencies of all rounds, in milliseconds.
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub maximum_ms: f64,
    /// Calls a second, of each round.
    pub throughput: Vec<f64>,
    /// Bytes of the TCP streams for one call, with TLS, without handshakes.
    pub sent_bytes: f64,
    pub received_bytes: f64,
    /// Seconds of processor time for 1,000 calls.
    pub caller_cpu_seconds: f64,
    pub server_cpu_seconds: f64,
}

impl Results {
    pub(super) fn new(host: String, between: &'static str, plan: &Plan, cases: Vec<Case>) -> Self {
        Results {
            host,
            between,
            rounds: plan.rounds,
            seconds: plan.time.as_secs_f64(),
            cases,
            capabilities: &CAPABILITIES,
        }
    }

    /// What was done, in one sentence.
    pub(super) fn heading(&self) -> String {
        let rounds = match self.rounds {
            1 => "1 round".to_owned(),
            rounds => format!("{rounds} rounds"),
        };
        format!(
            "{}, mutual TLS, {rounds} of {} s for each figure, in turn. Host: {}",
            self.between, self.seconds, self.host
        )
    }

    /// The numbers of callers, from the fewest.
    pub(super) fn callers(&self) -> Vec<usize> {
        let mut callers: Vec<usize> = self.cases.iter().map(|case| case.callers).collect();
        callers.sort_unstable();
        callers.dedup();
        callers
    }

    /// The cases of a protocol and an operation, from the fewest callers.
    pub(super) fn of(&self, protocol: Protocol, operation: Operation) -> Vec<&Case> {
        let cases = self.cases.iter();
        let cases = cases.filter(|case| case.protocol == protocol && case.operation == operation);
        let mut cases: Vec<&Case> = cases.collect();
        cases.sort_by_key(|case| case.callers);
        cases
    }
}

impl Case {
    /// The median of the rounds, in calls a second.
    pub fn rate(&self) -> f64 {
        let mut rates = self.throughput.clone();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().unwrap_or(0.0)
    }
}
