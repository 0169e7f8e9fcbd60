//! The plan that takes a deployment down: dependents stop before what they depend on, and what is owned is removed.

use std::collections::BTreeSet;

use super::builder::PlanBuilder;
use super::order::Order;
use super::remove::SystemDisk;
use super::{Action, DomainStep, Plan, PlanError, StepId, Volumes, effects, memory, remove, up};
use crate::intent::Intent;
use crate::observed::{LabState, Observed, Power};
use crate::spec::{Name, Spec};

const REASON: &str = "the deployment is taken down";

pub(super) fn plan(spec: &Spec, intent: &Intent, observed: &Observed, volumes: Volumes) -> Plan {
    let mut plan = PlanBuilder::default();
    take_down(spec, intent, observed, SystemDisk::Deleted, &mut plan);
    remove::delete_left_disks(observed, |_| false, &[StepId::StopLab], REASON, &mut plan);
    if volumes == Volumes::Delete {
        delete_volumes(observed, &mut plan);
    }
    plan.finish()
}

/// Saves the memory of what runs first, and keeps all system disks.
pub(super) fn plan_saved(
    spec: &Spec,
    intent: &Intent,
    observed: &Observed,
) -> Result<Plan, PlanError> {
    up::reject_stopped(spec, observed)?;
    let mut plan = PlanBuilder::default();
    if observed.lab != LabState::Stopped {
        let names: Vec<&Name> = remove::owned_domains(observed)
            .filter(|name| spec.domains.contains_key(*name))
            .filter(|name| can_be_saved(observed, name))
            .collect();
        // The next `up` knows of no fault, and does not see what a memory keeps.
        for name in &names {
            effects::lift_of_process(&Intent::default(), observed, name, &mut plan);
        }
        memory::save(spec, observed, &names, REASON, &mut plan);
    }
    take_down(spec, intent, observed, SystemDisk::Kept, &mut plan);
    Ok(plan.finish())
}

fn can_be_saved(observed: &Observed, name: &Name) -> bool {
    let domain = observed.domain(name);
    domain.is_some_and(|domain| {
        let persistent = domain.defined.as_ref().is_some_and(|it| it.persistent);
        persistent && !matches!(domain.power, Power::Crashed(_))
    })
}

/// Ends and removes what runs, after what is planned already.
fn take_down(
    spec: &Spec,
    intent: &Intent,
    observed: &Observed,
    disk: SystemDisk,
    plan: &mut PlanBuilder,
) {
    let saved = plan.ids();
    if !intent.is_empty() {
        let action = Action::RecordIntent {
            intent: Intent::default(),
            before: intent.clone(),
        };
        plan.add(action, REASON).after_all(saved.iter().cloned());
    }
    for host in observed.published.keys() {
        plan.add(Action::Unpublish { host: *host }, REASON)
            .after_all(saved.iter().cloned());
    }
    // A stopped lab has definitions only, which are removed with its files.
    if observed.lab != LabState::Stopped {
        domains(spec, observed, disk, &saved, plan);
        network(spec, observed, plan);
    }
    lab(spec, observed, plan);
}

/// Each volume follows the end of the domains that can have it open, so that the plan grows with their number only.
fn delete_volumes(observed: &Observed, plan: &mut PlanBuilder) {
    let named = observed.volumes.keys();
    let named = named.map(|id| (id.file(), BTreeSet::from([id])));
    let old = observed.old_volumes.iter();
    let old = old.map(|(file, old)| (file.clone(), old.of.iter().collect()));
    for (file, of) in named.chain(old) {
        let ends = of.into_iter().map(|id| &id.domain);
        let ends = ends.map(|domain| StepId::of(domain, DomainStep::Undefine));
        plan.add(Action::DeleteVolume { file }, "--volumes")
            .if_any_planned(ends)
            .if_planned(StepId::StopLab);
    }
}

fn domains(
    spec: &Spec,
    observed: &Observed,
    disk: SystemDisk,
    saved: &[StepId],
    plan: &mut PlanBuilder,
) {
    let order = Order::of(spec);
    let owned = remove::owned_domains(observed).cloned();
    for name in order.dependents_first(owned) {
        let disk = if spec.domains.contains_key(&name) {
            disk
        } else {
            SystemDisk::Deleted
        };
        if !plan.has_domain(&name, DomainStep::Save) {
            if let Some(domain) = observed.domain(&name) {
                remove::rouse(&name, domain.power, plan);
            }
            remove::merge(&name, observed, plan);
            let mut after: Vec<StepId> = order
                .dependents(&name)
                .map(|dependent| StepId::of(dependent, DomainStep::Stop))
                .collect();
            after.extend_from_slice(saved);
            remove::stop(spec, observed, &name, disk, &after, REASON, plan);
        }
        remove::undefine(observed, &name, disk, saved, REASON, plan);
    }
}

fn network(spec: &Spec, observed: &Observed, plan: &mut PlanBuilder) {
    let network = observed.network.as_ref().filter(|network| {
        let owner = network.owner.as_ref();
        owner.is_some_and(|owner| owner.deployment == spec.name)
    });
    let Some(network) = network else { return };
    let after = plan.ids();
    if network.active {
        plan.add(Action::StopNetwork, REASON)
            .if_any_planned(after.iter().cloned());
    }
    plan.add(Action::UndefineNetwork, REASON)
        .if_any_planned(after)
        .if_planned(StepId::StopNetwork);
}

fn lab(spec: &Spec, observed: &Observed, plan: &mut PlanBuilder) {
    let after = plan.ids();
    if observed.relay {
        plan.add(Action::StopRelay, REASON)
            .if_any_planned(after.iter().cloned());
    }
    if matches!(observed.lab, LabState::Unused | LabState::Absent) {
        return;
    }
    if !observed.foreign.is_empty() {
        let names: Vec<&str> = observed.foreign.iter().map(String::as_str).collect();
        plan.note(format!(
            "the lab of `{}` keeps running: it has domains or networks that pspd does not manage: {}",
            spec.name,
            names.join(", ")
        ));
        return;
    }
    if observed.lab == LabState::Running {
        plan.add(Action::StopLab, REASON)
            .if_any_planned(after.iter().cloned());
    }
    plan.add(Action::RemoveLab, REASON)
        .if_any_planned(after)
        .if_planned(StepId::StopLab);
}
