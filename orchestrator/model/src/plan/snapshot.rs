//! The plans of snapshots of a whole deployment.
//!
//! ```text
//! save:   [tidy (each) ->] begin -> layers (each) -> pause (each) -> take-snapshot (each) -> resume (each) -> record
//! rewind: stop (each) -> rewind      and then the plan of what differs from the snapshot's spec
//! ```
//! An arrow waits for the whole group before it, so that a snapshot is of one instant. Over several hosts, each waits for the
//! others before it pauses its domains, before it resumes them, and before it records the snapshot.

use super::builder::{Edges, PlanBuilder};
use super::{
    Action, DomainStep, Meeting, Plan, PlanError, SnapshotOf, StepId, StopMode, Undo, memory,
    remove, rename, up,
};
use crate::intent::Intent;
use crate::observed::{Attached, Crash, MemoryCondition, Observed, ObservedDomain, Power};
use crate::spec::{Name, Spec};

/// What a snapshot is called, and what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOptions {
    pub name: Name,
    pub note: String,
    /// Save only what is on the disks, as after a power cut.
    pub disk_only: bool,
    /// Let the guests write what they have to their disks first, for another deployment that boots from them.
    pub tidy: bool,
    /// Wait for the other hosts, which save theirs at the same time.
    pub meets: bool,
}

const SAVE: &str = "`pspd snapshot save`";
const CLONE: &str = "`pspd clone`";
const ONE_INSTANT: &str = "the snapshot is of one instant on all hosts";
const RESTORE: &str = "`pspd snapshot restore`";

pub(super) fn save(
    spec: &Spec,
    intent: &Intent,
    observed: &Observed,
    options: SnapshotOptions,
) -> Result<Plan, PlanError> {
    up::reject_foreign(spec, observed)?;
    up::reject_stopped(spec, observed)?;
    refuse(spec, intent, observed, &options.name)?;
    rename::refuse(spec, observed)?;
    let mut plan = PlanBuilder::default();
    for (name, domain) in &observed.domains {
        // The memory of a suspended guest cannot be saved.
        if domain.power == Power::Suspended {
            remove::rouse(name, domain.power, &mut plan);
        }
        remove::merge(name, observed, &mut plan);
    }
    let reason = if options.tidy { CLONE } else { SAVE };
    if options.tidy {
        tidy(spec, observed, &mut plan);
    }
    let snapshot = options.name;
    let action = Action::BeginSnapshot {
        snapshot: snapshot.clone(),
    };
    let ready = plan.ids();
    plan.add(action, reason).after_all(ready.iter().cloned());
    let domains: Vec<(&Name, &ObservedDomain)> = spec
        .domains
        .keys()
        .filter_map(|name| Some((name, observed.domain(name)?)))
        .collect();
    for (name, _) in &domains {
        let domain = (*name).clone();
        plan.add(Action::AddLayers { domain }, reason)
            .after(StepId::BeginSnapshot);
    }
    let of_all = |step: DomainStep| -> Vec<StepId> {
        let ids = domains
            .iter()
            .map(|(name, _)| StepId::of(name, step.clone()));
        ids.collect()
    };
    let running = domains
        .iter()
        .filter(|(_, domain)| matches!(domain.power, Power::Running | Power::Suspended))
        .map(|(name, _)| (*name).clone());
    let meets = options.meets;
    if meets {
        meet(Meeting::Ready, &mut plan).after_all(of_all(DomainStep::AddLayers));
    }
    for domain in running.clone() {
        plan.add(Action::Pause { domain }, reason)
            .after_all(of_all(DomainStep::AddLayers))
            .if_planned(StepId::Meet(Meeting::Ready));
    }
    if meets {
        meet(Meeting::Paused, &mut plan)
            .after(StepId::Meet(Meeting::Ready))
            .if_any_planned(of_all(DomainStep::Pause));
    }
    for (name, domain) in &domains {
        let of = of(domain, options.disk_only);
        if of == SnapshotOf::Running && !options.disk_only || domain.power == Power::Saved {
            plan.note(format!(
                "the snapshot has no memory of `{name}`: it would boot from its disks"
            ));
        }
        let action = Action::TakeSnapshot {
            domain: (*name).clone(),
            snapshot: snapshot.clone(),
            of,
        };
        plan.add(action, reason)
            .after_all(of_all(DomainStep::AddLayers))
            .if_any_planned(of_all(DomainStep::Pause));
    }
    for domain in running {
        plan.add(Action::Resume { domain }, "its disks are frozen")
            .after_all(of_all(DomainStep::TakeSnapshot))
            .if_planned(StepId::Meet(Meeting::Paused));
    }
    if meets {
        meet(Meeting::Saved, &mut plan)
            .after_all(of_all(DomainStep::TakeSnapshot))
            .if_any_planned(of_all(DomainStep::Resume))
            .if_planned(StepId::Meet(Meeting::Paused));
    }
    let note = options.note;
    plan.add(Action::RecordSnapshot { snapshot, note }, reason)
        .after_all(of_all(DomainStep::TakeSnapshot))
        .if_any_planned(of_all(DomainStep::Resume))
        .if_planned(StepId::Meet(Meeting::Saved));
    plan.undo(Undo::WhenNotSuccessful);
    Ok(plan.finish())
}

pub(super) fn save_nothing() -> Plan {
    let mut plan = PlanBuilder::default();
    let mut before = None;
    for when in [Meeting::Ready, Meeting::Paused, Meeting::Saved] {
        let edges = meet(when, &mut plan);
        edges.after_all(before);
        before = Some(StepId::Meet(when));
    }
    plan.finish()
}

fn meet(when: Meeting, plan: &mut PlanBuilder) -> Edges<'_> {
    plan.add(Action::Meet { when }, ONE_INSTANT)
}

fn tidy(spec: &Spec, observed: &Observed, plan: &mut PlanBuilder) {
    for name in spec.domains.keys() {
        let power = observed.domain(name).map(|domain| domain.power);
        if !matches!(power, Some(Power::Running | Power::Suspended)) {
            continue;
        }
        let domain = name.clone();
        let clean = false;
        plan.add(Action::Tidy { domain, clean }, CLONE)
            .if_any_planned(remove::roused(name))
            .if_planned(StepId::of(name, DomainStep::Merge));
    }
}

fn of(domain: &ObservedDomain, disk_only: bool) -> SnapshotOf {
    let usable =
        |memory: &crate::observed::SavedMemory| memory.condition == MemoryCondition::Usable;
    match (&domain.defined, domain.power) {
        (_, Power::Crashed(Crash::Guest)) => SnapshotOf::Running,
        (Some(_), power) if power.has_process() && disk_only => SnapshotOf::Running,
        (Some(defined), power) if power.has_process() => {
            SnapshotOf::Memory(memory::machine(defined))
        }
        _ if domain.memory.as_ref().is_some_and(usable) && !disk_only => SnapshotOf::SavedMemory,
        _ => SnapshotOf::Off,
    }
}

/// Says what a snapshot needs and does not have.
fn refuse(
    spec: &Spec,
    intent: &Intent,
    observed: &Observed,
    snapshot: &Name,
) -> Result<(), PlanError> {
    if observed.snapshots.contains(snapshot) {
        let snapshot = snapshot.clone();
        return Err(PlanError::SnapshotExists { snapshot });
    }
    let active = intent.at(observed.clock);
    if let Some(fault) = active.faults.keys().next() {
        let fault = fault.clone();
        return Err(PlanError::FaultActive { fault });
    }
    let mut disks = spec
        .domains
        .keys()
        .filter_map(|name| observed.domain(name)?.disk.as_ref());
    let mut volumes = spec.volumes().filter_map(|id| observed.volume(&id));
    if disks.next().is_none() && volumes.next().is_none() {
        let deployment = spec.name.clone();
        return Err(PlanError::NotUp { deployment });
    }
    for name in spec.domains.keys() {
        let replaced = observed.domain(name).is_some_and(|domain| {
            let mut attached = domain.attached.values();
            domain.power.has_process() && attached.any(|file| *file != Attached::Same)
        });
        if replaced {
            let domain = name.clone();
            return Err(PlanError::DiskReplaced { domain });
        }
    }
    Ok(())
}

pub(super) fn rewind(observed: &Observed, snapshot: &Name, disk_only: bool) -> Plan {
    let mut plan = PlanBuilder::default();
    for name in remove::owned_domains(observed) {
        let Some(domain) = observed.domain(name) else {
            continue;
        };
        if !domain.power.has_process() {
            continue;
        }
        let action = Action::Stop {
            domain: name.clone(),
            mode: StopMode::Force,
        };
        plan.add(action, RESTORE);
    }
    let stopped = plan.ids();
    let action = Action::Rewind {
        snapshot: snapshot.clone(),
        disk_only,
    };
    plan.add(action, RESTORE).after_all(stopped);
    plan.finish()
}

/// One after the other, because their layers are over each other.
pub(super) fn remove<'a>(snapshots: impl IntoIterator<Item = &'a Name>) -> Plan {
    let mut plan = PlanBuilder::default();
    for snapshot in snapshots {
        let before = plan.ids();
        let snapshot = snapshot.clone();
        plan.add(Action::RemoveSnapshot { snapshot }, "`pspd snapshot rm`")
            .after_all(before.into_iter().next_back());
    }
    plan.finish()
}
