//! What an experiment showed, as JSON has it. Times are in seconds from the start of a run's load, latencies in milliseconds.

use std::collections::BTreeMap;

use serde::Serialize;

use super::check::Check;
use super::history::History;
use crate::bench::load::Results;

/// All runs of one experiment.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub name: String,
    pub about: Option<String>,
    /// Whether all checks of all runs held.
    pub passed: bool,
    pub runs: Vec<Run>,
    pub versions: Versions,
    pub deployment: String,
    pub topology: Vec<Domain>,
    /// The text of the experiment's file.
    pub file: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Versions {
    pub pspd: String,
    pub hypervisor: String,
    /// Of the host.
    pub kernel: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Domain {
    pub name: String,
    pub address: String,
    pub memory: String,
    pub vcpus: u32,
    /// The service's binary and port.
    pub service: Option<String>,
    /// The digest of the release that was deployed before the first run.
    pub release: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// When the load began.
    pub started: String,
    /// How long it took, without the start from a snapshot.
    pub seconds: f64,
    pub passed: bool,
    pub checks: Vec<Check>,
    pub phases: Vec<PhaseResult>,
    pub events: Vec<EventResult>,
    pub faults: Vec<FaultResult>,
    /// The health of each service, where it changed.
    pub health: BTreeMap<String, Vec<HealthChange>>,
    pub history: Option<History>,
    pub load: Results,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseResult {
    pub name: String,
    pub from: f64,
    pub to: f64,
    pub calls: u64,
    pub failed: u64,
    /// The share of failed calls, from 0 to 1.
    pub errors: f64,
    /// Of calls that succeeded or got no answer in time.
    pub p50_ms: f64,
    pub p99_ms: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventResult {
    pub what: String,
    pub from: f64,
    pub to: f64,
    pub error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FaultResult {
    /// The words of `pspd fault`.
    pub fault: String,
    pub from: f64,
    /// When its heal began.
    pub ended: f64,
    /// When its heal ended.
    pub to: f64,
    /// From the start of its heal until everything worked. `None` if it never did, or if another fault was still active.
    pub recovery: Option<f64>,
}

/// From this time on, until the next.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HealthChange {
    pub at: f64,
    pub state: State,
    pub cause: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Serving,
    NotServing,
    Unreachable,
}
