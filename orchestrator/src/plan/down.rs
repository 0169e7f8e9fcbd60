//! The plan for nothing: dependants stop before what they depend on, and what is owned goes.

use std::collections::BTreeSet;

use super::{Action, Plan, domain};
use crate::observe::{LabState, Observed};
use crate::spec::{Name, Spec};

pub fn plan(spec: &Spec, observed: &Observed, volumes: bool) -> Plan {
    let mut plan = Plan::default();
    let reason = "the deployment goes";
    for host in observed.published.keys() {
        plan.push(
            format!("unpublish/{host}"),
            Action::Unpublish { host: *host },
            &[],
            reason,
        );
    }
    // A stopped lab has definitions only, and they go with its files.
    if observed.lab != LabState::Stopped {
        for name in dependants_first(spec, observed) {
            recover(observed, &name, &mut plan);
            let dependants = spec
                .domains
                .values()
                .filter(|other| other.depends_on.contains(&name));
            let mut after: Vec<String> = dependants
                .map(|other| format!("{}/stop", other.name))
                .collect();
            after.extend(domain::gather(spec, observed, &name, reason, &mut plan));
            after.extend([format!("{name}/resume"), format!("{name}/merge")]);
            remove_domain(observed, &name, &after, reason, &mut plan);
        }
        remove_network(spec, observed, reason, &mut plan);
    }
    remove_lab(spec, observed, reason, &mut plan);
    remove_files(observed, volumes, reason, &mut plan);
    plan
}

/// What an interrupted export left comes to its volumes before they are left alone.
fn recover(observed: &Observed, name: &Name, plan: &mut Plan) {
    let (resume, merge) = (format!("{name}/resume"), format!("{name}/merge"));
    if observed.paused.contains(name) {
        let domain = name.clone();
        plan.push(&resume, Action::Resume { domain }, &[], "it is paused");
    }
    if observed.snapshots.contains(name) {
        let domain = name.clone();
        let reason = "an export was interrupted";
        plan.push(merge, Action::Merge { domain }, &[resume], reason);
    }
}

/// The domains that carry this deployment's mark, by name.
pub(super) fn owned_domains(spec: &Spec, observed: &Observed) -> Vec<Name> {
    let owned = observed.domains.iter().filter(|(_, state)| {
        state
            .owner
            .as_ref()
            .is_some_and(|owner| owner.deployment == spec.name)
    });
    owned.filter_map(|(name, _)| Name::new(name).ok()).collect()
}

fn dependants_first(spec: &Spec, observed: &Observed) -> Vec<Name> {
    let mut waiting = owned_domains(spec, observed);
    let mut ordered = Vec::new();
    while !waiting.is_empty() {
        let needed: BTreeSet<&Name> = waiting
            .iter()
            .filter_map(|name| spec.domains.get(name))
            .flat_map(|domain| &domain.depends_on)
            .collect();
        let (later, mut now): (Vec<Name>, Vec<Name>) = waiting
            .iter()
            .cloned()
            .partition(|name| needed.contains(name));
        if now.is_empty() {
            // A recorded spec cannot have a cycle; were there one, its members go in name order.
            now = later.clone();
            waiting.clear();
        } else {
            waiting = later;
        }
        ordered.append(&mut now);
    }
    ordered
}

/// Shuts down, undefines and deletes the system disk of one domain that is owned.
pub(super) fn remove_domain(
    observed: &Observed,
    name: &Name,
    after: &[String],
    reason: &str,
    plan: &mut Plan,
) {
    if observed
        .domains
        .get(name.as_str())
        .is_some_and(|state| state.running)
    {
        plan.push(
            format!("{name}/stop"),
            Action::Stop {
                domain: name.clone(),
            },
            after,
            reason,
        );
    }
    let mut after = after.to_vec();
    after.push(format!("{name}/stop"));
    plan.push(
        format!("{name}/undefine"),
        Action::Undefine {
            domain: name.clone(),
        },
        &after,
        reason,
    );
    if observed.disks.contains_key(name.as_str()) {
        let action = Action::DeleteDisk {
            domain: name.clone(),
        };
        plan.push(
            format!("{name}/delete-disk"),
            action,
            &[format!("{name}/undefine")],
            reason,
        );
    }
}

fn remove_network(spec: &Spec, observed: &Observed, reason: &str, plan: &mut Plan) {
    let owned = observed.network.as_ref().filter(|network| {
        network
            .owner
            .as_ref()
            .is_some_and(|owner| owner.deployment == spec.name)
    });
    let Some(network) = owned else { return };
    let mut after: Vec<String> = plan.steps.iter().map(|step| step.id.clone()).collect();
    if network.active {
        plan.push("network/stop", Action::StopNetwork, &after, reason);
        after.push("network/stop".into());
    }
    plan.push("network/undefine", Action::UndefineNetwork, &after, reason);
}

fn remove_lab(spec: &Spec, observed: &Observed, reason: &str, plan: &mut Plan) {
    if observed.relay {
        let after: Vec<String> = plan.steps.iter().map(|step| step.id.clone()).collect();
        plan.push("relay/stop", Action::StopRelay, &after, reason);
    }
    if matches!(observed.lab, LabState::Unused | LabState::Absent) {
        return;
    }
    if !observed.strangers.is_empty() {
        let names: Vec<&str> = observed.strangers.iter().map(String::as_str).collect();
        plan.notes.push(format!(
            "the lab of `{}` stays, because it has what pspd did not make: {}",
            spec.name,
            names.join(", ")
        ));
        return;
    }
    let mut after: Vec<String> = plan.steps.iter().map(|step| step.id.clone()).collect();
    if observed.lab == LabState::Running {
        plan.push("lab/stop", Action::StopLab, &after, reason);
        after.push("lab/stop".into());
    }
    plan.push("lab/remove", Action::RemoveLab, &after, reason);
}

/// System disks whose domain is gone already, and the data volumes where they are to go.
fn remove_files(observed: &Observed, volumes: bool, reason: &str, plan: &mut Plan) {
    let after: Vec<String> = plan.steps.iter().map(|step| step.id.clone()).collect();
    for domain in observed
        .disks
        .keys()
        .filter_map(|name| Name::new(name).ok())
    {
        let id = format!("{domain}/delete-disk");
        if !plan.steps.iter().any(|step| step.id == id) {
            plan.push(id, Action::DeleteDisk { domain }, &after, reason);
        }
    }
    if volumes {
        for file in observed.volumes.keys() {
            plan.push(
                format!("delete-volume/{file}"),
                Action::DeleteVolume { file: file.clone() },
                &after,
                "--volumes",
            );
        }
    }
}
