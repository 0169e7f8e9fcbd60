//! The plan that brings a host to the state of a spec.

use std::collections::BTreeSet;

use super::builder::PlanBuilder;
use super::domain::DomainPlanner;
use super::order::Order;
use super::remove::SystemDisk;
use super::{
    Action, Plan, PlanError, StepId, effects, left, memory, network, ports, remove, rename,
};
use crate::intent::{Intent, PowerIntent};
use crate::observed::{LabState, Observed, Pause, Power};
use crate::spec::{Name, Spec};

const ORPHAN: &str = "no longer in the topology";

/// The plan of `pspd up`: it starts what the user stopped.
pub(super) fn plan(spec: &Spec, intent: &Intent, observed: &Observed) -> Result<Plan, PlanError> {
    let next = intent.at(observed.clock).for_up(spec);
    let mut plan = PlanBuilder::default();
    record(intent, &next, &mut plan);
    for (name, power) in &intent.power {
        if spec.domains.contains_key(name) {
            plan.note(started_again(name, *power));
        }
    }
    converge(spec, &next, observed, plan)
}

fn started_again(name: &Name, power: PowerIntent) -> String {
    let verb = match power {
        PowerIntent::Stopped => "starting",
        PowerIntent::Paused => "resuming",
        PowerIntent::Saved => "restoring",
    };
    format!("{verb} `{name}`, which the user {}", power.word())
}

/// The plan of what differs from the spec and the intent: that of `up` without what it starts.
pub(super) fn drift(spec: &Spec, intent: &Intent, observed: &Observed) -> Result<Plan, PlanError> {
    let mut next = intent.at(observed.clock).for_up(spec);
    next.power.clone_from(&intent.power);
    let mut plan = PlanBuilder::default();
    record(intent, &next, &mut plan);
    converge(spec, &next, observed, plan)
}

fn record(before: &Intent, next: &Intent, plan: &mut PlanBuilder) {
    if next == before {
        return;
    }
    let reason = if next.power == before.power {
        "faults expired, or their domains were removed"
    } else {
        "`up` starts what was stopped"
    };
    let (intent, before) = (next.clone(), before.clone());
    plan.add(Action::RecordIntent { intent, before }, reason);
}

fn converge(
    spec: &Spec,
    intent: &Intent,
    observed: &Observed,
    mut plan: PlanBuilder,
) -> Result<Plan, PlanError> {
    reject_foreign(spec, observed)?;
    reject_stopped(spec, observed)?;
    keys(observed, &mut plan);
    if matches!(observed.lab, LabState::Absent | LabState::Stopped) {
        plan.add(Action::StartLab, "it is not running");
    }
    let moving = ports::plan(spec, observed, &mut plan);
    remove_orphans(spec, observed, &mut plan);
    for (name, image) in &observed.images {
        if !image.cached {
            let image = name.clone();
            plan.add(Action::EnsureImage { image }, "it is not cached");
        }
    }
    roms(spec, observed, &mut plan);
    let network = network::change(spec, observed);
    effects::lift(spec, intent, observed, &mut plan);
    let order = Order::of(spec);
    let disturbed = disturbed(intent, &order);
    let planner = |name: &Name| DomainPlanner {
        spec,
        intent,
        observed,
        domain: &spec.domains[name],
        disturbed: disturbed.contains(name),
        network_stops: network.stops.is_some(),
    };
    let names: Vec<&Name> = order
        .dependencies_first
        .iter()
        .map(|domain| &domain.name)
        .collect();
    for name in &names {
        planner(name).recover(&mut plan);
    }
    for name in names.iter().rev() {
        planner(name).stop(&order, &mut plan);
    }
    network::plan(spec, observed, &network, &mut plan);
    ports::publish_moving(moving, &mut plan);
    rename::plan(spec, observed, &mut plan)?;
    left::note(spec, observed, &mut plan);
    domains(&names, planner, &mut plan)?;
    effects::apply(spec, intent, observed, &mut plan);
    Ok(plan.finish())
}

/// Plans each domain after those that it depends on. Restored domains run again together, before anything is asked of a
/// guest.
fn domains<'a>(
    names: &[&'a Name],
    planner: impl Fn(&'a Name) -> DomainPlanner<'a>,
    plan: &mut PlanBuilder,
) -> Result<(), PlanError> {
    let restored = |name: &&'a Name| planner(name).is_restored();
    if !names.iter().any(restored) {
        for name in names {
            let fresh_disk = planner(name).begin(plan)?;
            planner(name).guest(fresh_disk, plan);
        }
        return Ok(());
    }
    let mut fresh = Vec::new();
    for name in names {
        fresh.push((*name, planner(name).begin(plan)?));
    }
    memory::resume_together(names, "its memory was restored", plan);
    for (name, fresh_disk) in fresh {
        planner(name).guest(fresh_disk, plan);
    }
    Ok(())
}

/// Nothing can be asked of a domain whose process is stopped.
pub(super) fn reject_stopped(spec: &Spec, observed: &Observed) -> Result<(), PlanError> {
    for name in spec.domains.keys() {
        if let Some(Power::Paused(Pause::Process(pid))) = observed.domain(name).map(|it| it.power) {
            let domain = name.clone();
            return Err(PlanError::ProcessStopped { domain, pid });
        }
    }
    Ok(())
}

pub(super) fn reject_foreign(spec: &Spec, observed: &Observed) -> Result<(), PlanError> {
    let network = observed.network.as_ref();
    let ours = network.is_none_or(|network| {
        let owner = network.owner.as_ref();
        owner.is_some_and(|owner| owner.deployment == spec.name)
    });
    if !ours {
        return Err(PlanError::Foreign {
            kind: "network",
            name: spec.network.name.clone(),
        });
    }
    for name in spec.domains.keys() {
        if observed.domain(name).is_some_and(|domain| domain.foreign) {
            return Err(PlanError::Foreign {
                kind: "domain",
                name: name.to_string(),
            });
        }
    }
    Ok(())
}

/// Domains whose services may be down for a reason that the user knows: they, or any that they depend on, are held or
/// have a fault.
fn disturbed(intent: &Intent, order: &Order) -> BTreeSet<Name> {
    let mut disturbed = BTreeSet::new();
    for domain in &order.dependencies_first {
        if intent.disturbs(&domain.name) || !domain.depends_on.is_disjoint(&disturbed) {
            disturbed.insert(domain.name.clone());
        }
    }
    disturbed
}

fn keys(observed: &Observed, plan: &mut PlanBuilder) {
    let missing = &observed.keys.missing;
    if !missing.is_empty() {
        let count = missing.len();
        let reason = match (missing.first(), count) {
            (Some(file), 1) => format!("`{file}` is missing"),
            _ => format!("{count} of its files are missing"),
        };
        plan.add(Action::CreateKeys, reason);
    }
    for owner in &observed.keys.expiring {
        let owner = owner.clone();
        plan.add(
            Action::RenewCertificate { owner },
            "it expires soon, or its names changed",
        )
        .if_planned(StepId::CreateKeys);
    }
}

/// Domains with the same firmware share one ROM.
fn roms(spec: &Spec, observed: &Observed, plan: &mut PlanBuilder) {
    for (name, domain) in &spec.domains {
        let rom = observed.domain(name).and_then(|domain| domain.rom.as_ref());
        let Some(rom) = rom.filter(|rom| !rom.cached) else {
            continue;
        };
        if plan.has(&StepId::Rom(rom.digest.clone())) {
            continue;
        }
        let action = Action::EnsureRom {
            domain: name.clone(),
            image: domain.image.clone(),
            digest: rom.digest.clone(),
            firmware: domain.firmware.clone(),
        };
        let edges = plan.add(action, "it is not cached");
        if domain.firmware.holds_kernel() {
            edges.if_planned(StepId::Image(domain.image.clone()));
        }
    }
}

/// Removes the deployment's domains that are no longer in the topology.
fn remove_orphans(spec: &Spec, observed: &Observed, plan: &mut PlanBuilder) {
    for name in remove::owned_domains(observed) {
        if !spec.domains.contains_key(name) {
            if let Some(domain) = observed.domain(name) {
                remove::rouse(name, domain.power, plan);
            }
            let disk = SystemDisk::Deleted;
            remove::stop(spec, observed, name, disk, &[], ORPHAN, plan);
            remove::undefine(observed, name, disk, &[], ORPHAN, plan);
        }
    }
    let keep = |name: &Name| spec.domains.contains_key(name);
    remove::delete_left_disks(observed, keep, &[], ORPHAN, plan);
}
