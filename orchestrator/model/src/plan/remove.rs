//! What stopping and removing a domain takes: shared by the plans that bring up and take down.

use std::net::Ipv4Addr;

use super::builder::PlanBuilder;
use super::{Action, DomainStep, StepId, StopMode};
use crate::observed::{Crash, Observed, ObservedDomain, Pause, Power};
use crate::spec::{Name, SYSTEM_DISK, Spec};

/// What happens to a system disk after its domain stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SystemDisk {
    Kept,
    Deleted,
}

/// The domains that libvirt has for this deployment, by name.
pub(super) fn owned_domains(observed: &Observed) -> impl Iterator<Item = &Name> {
    observed
        .domains
        .iter()
        .filter(|(_, domain)| domain.defined.is_some())
        .map(|(name, _)| name)
}

/// Makes a guest react again: a paused one is resumed, a suspended one is woken.
pub(super) fn rouse(name: &Name, power: Power, plan: &mut PlanBuilder) {
    let domain = name.clone();
    match power {
        Power::Paused(pause) => {
            let reason = match pause {
                Pause::User => "it is paused",
                Pause::IoError => "it was paused by a disk's I/O error",
                Pause::Libvirt => "libvirt paused it",
                // libvirt cannot continue it.
                Pause::Process(_) => return,
            };
            plan.add(Action::Resume { domain }, reason)
                .if_planned(StepId::StartLab);
        }
        Power::Suspended => {
            plan.add(
                Action::Wake { domain },
                "the guest suspended itself to memory",
            )
            .if_planned(StepId::StartLab);
        }
        Power::Off | Power::ShutDown | Power::Running | Power::Saved | Power::Crashed(_) => {}
    }
}

/// Merges what an interrupted export or snapshot left of a domain's disks, before anything else is done to it.
pub(super) fn merge(name: &Name, observed: &Observed, plan: &mut PlanBuilder) {
    if observed.domain(name).is_some_and(|domain| domain.unmerged) {
        let domain = name.clone();
        plan.add(
            Action::Merge { domain },
            "an export or a snapshot was interrupted",
        )
        .if_planned(StepId::StartLab)
        .if_any_planned(roused(name));
    }
}

/// The steps after which a guest reacts.
pub(super) fn roused(name: &Name) -> [StepId; 3] {
    [DomainStep::Resume, DomainStep::Wake, DomainStep::Continue].map(|step| StepId::of(name, step))
}

/// Stops a domain that has a process, after its log was gathered.
pub(super) fn stop(
    spec: &Spec,
    observed: &Observed,
    name: &Name,
    disk: SystemDisk,
    after: &[StepId],
    reason: &str,
    plan: &mut PlanBuilder,
) {
    let Some(power) = observed.domain(name).map(|domain| domain.power) else {
        return;
    };
    if !power.has_process() {
        return;
    }
    let mute = matches!(
        power,
        Power::Crashed(Crash::Guest) | Power::Paused(Pause::Process(_))
    );
    let lost = disk == SystemDisk::Deleted && !outlives_its_disk(spec, observed, name);
    let mode = if mute || lost {
        StopMode::Force
    } else {
        StopMode::Shutdown
    };
    let has_service = spec
        .domains
        .get(name)
        .is_some_and(|domain| domain.service.is_some());
    let had_service = observed
        .domain(name)
        .is_some_and(|domain| domain.deployed.is_some());
    if (has_service || had_service)
        && !mute
        && let Some(address) = address(spec, observed, name)
    {
        let domain = name.clone();
        plan.add(Action::Gather { domain, address }, reason)
            .if_planned(StepId::StartLab)
            .if_any_planned(roused(name));
    }
    let domain = name.clone();
    plan.add(Action::Stop { domain, mode }, reason)
        .if_any_planned(after.iter().cloned())
        .if_planned(StepId::StartLab)
        .if_planned(StepId::of(name, DomainStep::Gather))
        .if_any_planned(roused(name))
        .if_planned(StepId::of(name, DomainStep::Merge));
}

/// Whether a guest has anything that is kept when its system disk is deleted, so that it must shut down: a data volume,
/// or a service with a checkpoint. Of a domain that is not in the spec, the service is not known.
fn outlives_its_disk(spec: &Spec, observed: &Observed, name: &Name) -> bool {
    let attached = observed.domain(name).map(|domain| &domain.attached);
    let mut attached = attached.into_iter().flat_map(|disks| disks.keys());
    let of_spec = spec.domains.get(name).is_none_or(|domain| {
        let service = domain.service.as_ref();
        !domain.volumes.is_empty() || service.is_some_and(|service| !service.checkpoint.is_empty())
    });
    of_spec || attached.any(|serial| serial != SYSTEM_DISK)
}

/// The address of a domain's guest while the network is as observed.
pub(super) fn address(spec: &Spec, observed: &Observed, name: &Name) -> Option<Ipv4Addr> {
    let hosts = observed.network.iter().flat_map(|network| &network.hosts);
    let current = hosts
        .filter(|(host, ..)| host == name)
        .map(|(.., address)| *address)
        .next();
    current.or_else(|| Some(spec.domains.get(name)?.address))
}

/// Undefines a domain that is owned, after the steps `after`; what becomes of its system disk and its saved memory is
/// `disk`.
pub(super) fn undefine(
    observed: &Observed,
    name: &Name,
    disk: SystemDisk,
    after: &[StepId],
    reason: &str,
    plan: &mut PlanBuilder,
) {
    let domain = name.clone();
    plan.add(Action::Undefine { domain }, reason)
        .if_any_planned(after.iter().cloned())
        .if_planned(StepId::StartLab)
        .if_planned(StepId::of(name, DomainStep::Merge))
        .if_planned(StepId::of(name, DomainStep::Stop));
    if disk == SystemDisk::Deleted && observed.domain(name).is_some_and(ObservedDomain::has_files) {
        let domain = name.clone();
        plan.add(Action::DeleteDisk { domain }, reason)
            .after(StepId::of(name, DomainStep::Undefine));
    }
}

/// Deletes the system disks of domains that libvirt no longer has; `keep` says which ones stay.
pub(super) fn delete_left_disks(
    observed: &Observed,
    keep: impl Fn(&Name) -> bool,
    after: &[StepId],
    reason: &str,
    plan: &mut PlanBuilder,
) {
    for (name, domain) in &observed.domains {
        if domain.has_files() && !keep(name) && !plan.has_domain(name, DomainStep::DeleteDisk) {
            let domain = name.clone();
            plan.add(Action::DeleteDisk { domain }, reason)
                .if_any_planned(after.iter().cloned());
        }
    }
}
