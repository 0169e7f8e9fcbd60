//! Decides: spec, intent and observed state become an ordered graph of steps, each with its values and a reason.
//!
//! Pure and deterministic: no clock, file, socket or environment. Nothing else in pspd decides what to do.

mod action_id;
mod builder;
mod digest;
mod domain;
mod down;
mod effects;
mod error;
mod export;
mod fault;
mod guest;
mod id;
mod import;
mod left;
mod memory;
mod network;
mod order;
mod ports;
mod power;
mod remove;
mod rename;
mod service;
mod set;
mod snapshot;
mod step;
mod title;
mod up;
mod values;
mod volume;
mod waits;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::fault::Effect;
use crate::intent::Intent;
use crate::observed::Observed;
use crate::spec::{Name, Size, Spec};

pub use error::PlanError;
pub use export::ExportOptions;
pub use id::{DomainStep, Phase, StepId};
pub use order::Order;
pub use power::{PowerGoal, Restart};
pub use snapshot::SnapshotOptions;
pub use step::{Action, Plan, Step, Undo};
pub use values::{
    Existing, Link, Meeting, Readiness, SavedMachine, SavedState, ServiceOrder, SnapshotOf,
    StopMode,
};
pub use waits::waits;

/// What happens to the data volumes of a deployment that is taken down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volumes {
    Keep,
    Delete,
}

/// Plans what brings the observed host to the state of `spec`, and starts what the user stopped.
pub fn up(spec: &Spec, intent: &Intent, observed: &Observed) -> Result<Plan, PlanError> {
    up::plan(spec, intent, observed)
}

/// Plans what differs from `spec`, but for what the user asked for: stopped domains stay stopped, faults stay active.
pub fn drift(spec: &Spec, intent: &Intent, observed: &Observed) -> Result<Plan, PlanError> {
    up::drift(spec, intent, observed)
}

/// Plans the removal of everything that the deployment owns.
pub fn down(spec: &Spec, intent: &Intent, observed: &Observed, volumes: Volumes) -> Plan {
    down::plan(spec, intent, observed, volumes)
}

/// Plans the end of everything that runs, so that the next `up` continues from where it stopped: memory is saved, and disks
/// are kept.
pub fn down_saved(spec: &Spec, intent: &Intent, observed: &Observed) -> Result<Plan, PlanError> {
    down::plan_saved(spec, intent, observed)
}

/// Plans what a command for power does with the named domains, or without names with all.
pub fn power(
    spec: &Spec,
    intent: &Intent,
    observed: &Observed,
    goal: PowerGoal,
    names: &BTreeSet<Name>,
) -> Result<Plan, PlanError> {
    power::plan(spec, intent, observed, goal, names)
}

/// Plans other memory or vCPUs than the topology's for one domain, until the next `up`.
pub fn set(
    spec: &Spec,
    observed: &Observed,
    domain: &Name,
    memory: Option<Size>,
    vcpus: Option<u32>,
) -> Result<Plan, PlanError> {
    set::plan(spec, observed, domain, memory, vcpus)
}

/// Plans the removal of data volumes that no domain of the spec of the last `up` has.
pub fn prune_volumes(spec: &Spec, observed: &Observed) -> Plan {
    left::prune(spec, observed)
}

/// Plans what packs the deployment into one file, of one instant, while it runs.
pub fn export(
    spec: &Spec,
    intent: &Intent,
    observed: &Observed,
    options: ExportOptions,
) -> Result<Plan, PlanError> {
    export::plan(spec, intent, observed, options)
}

/// Plans what saves a snapshot of the whole deployment, of one instant, while it runs.
pub fn save_snapshot(
    spec: &Spec,
    intent: &Intent,
    observed: &Observed,
    options: SnapshotOptions,
) -> Result<Plan, PlanError> {
    snapshot::save(spec, intent, observed, options)
}

/// Plans the part of a host that has nothing to save in a snapshot over several hosts.
pub fn save_nothing() -> Plan {
    snapshot::save_nothing()
}

/// Plans the end of everything that runs, and what puts a snapshot in its place; [`drift`] then starts it.
pub fn rewind(observed: &Observed, snapshot: &Name, disk_only: bool) -> Plan {
    snapshot::rewind(observed, snapshot, disk_only)
}

/// Plans the removal of snapshots; what others and the running domains need of them stays.
pub fn remove_snapshots<'a>(snapshots: impl IntoIterator<Item = &'a Name>) -> Plan {
    snapshot::remove(snapshots)
}

/// Plans what places an archive's deployment on this host; `up` then starts it.
pub fn import(archive: PathBuf, folder: PathBuf) -> Plan {
    import::plan(archive, folder)
}

/// Plans a further fault, until it is healed or for a time; also returns its id.
pub fn inject(
    spec: &Spec,
    intent: &Intent,
    observed: &Observed,
    effect: Effect,
    lasts: Option<Duration>,
) -> Result<(Name, Plan), PlanError> {
    fault::inject(spec, intent, observed, effect, lasts)
}

/// Plans the end of these faults, and of those whose time is over. The others stay.
pub fn heal(
    spec: &Spec,
    intent: &Intent,
    observed: &Observed,
    ids: &BTreeSet<Name>,
) -> Result<Plan, PlanError> {
    fault::heal(spec, intent, observed, ids)
}
