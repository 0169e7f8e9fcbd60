//! Saved memory in plans: what saves it, what continues from it, and where it fits.

use super::builder::PlanBuilder;
use super::{Action, DomainStep, SavedMachine, StepId, Undo, remove};
use crate::observed::{Defined, Observed, ObservedDomain, Power, SavedMemory};
use crate::spec::{Digest, Name, Range, Size, Spec};

/// Saves the memory of domains, all of one instant.
pub(super) fn save(
    spec: &Spec,
    observed: &Observed,
    names: &[&Name],
    reason: &str,
    plan: &mut PlanBuilder,
) {
    let domains: Vec<(&Name, &ObservedDomain, &Defined)> = names
        .iter()
        .filter_map(|name| {
            let domain = observed.domain(name)?;
            Some((*name, domain, domain.defined.as_ref()?))
        })
        .filter(|(_, domain, _)| domain.power.has_process())
        .collect();
    let of = |step: DomainStep| -> Vec<StepId> {
        let ids = domains
            .iter()
            .map(|(name, ..)| StepId::of(name, step.clone()));
        ids.collect()
    };
    for (name, domain, _) in &domains {
        if domain.power == Power::Suspended {
            remove::rouse(name, domain.power, plan);
        }
        remove::merge(name, observed, plan);
        let serves = spec
            .domains
            .get(*name)
            .is_some_and(|it| it.service.is_some());
        if serves
            && matches!(domain.power, Power::Running | Power::Suspended)
            && let Some(address) = remove::address(spec, observed, name)
        {
            let domain = (*name).clone();
            plan.add(Action::Gather { domain, address }, reason)
                .if_any_planned(remove::roused(name));
        }
    }
    for (name, domain, _) in &domains {
        if matches!(domain.power, Power::Running | Power::Suspended) {
            let domain = (*name).clone();
            plan.add(Action::Pause { domain }, reason)
                .if_any_planned(of(DomainStep::Wake))
                .if_any_planned(of(DomainStep::Merge))
                .if_any_planned(of(DomainStep::Gather));
        }
    }
    for (name, _, defined) in &domains {
        let action = Action::Save {
            domain: (*name).clone(),
            machine: machine(defined),
        };
        let lifted = plan.ids().into_iter().filter(|id| {
            let of_process =
                |step: &DomainStep| matches!(step, DomainStep::SetLink | DomainStep::Throttle(_));
            matches!(id, StepId::Domain(other, step) if other == *name && of_process(step))
        });
        let lifted: Vec<StepId> = lifted.collect();
        plan.add(action, reason)
            .if_any_planned(of(DomainStep::Merge))
            .if_any_planned(of(DomainStep::Pause))
            .after_all(lifted);
    }
    plan.undo(Undo::WhenNotSuccessful);
}

/// What a process of this definition is, as its memory needs it.
pub(super) fn machine(defined: &Defined) -> SavedMachine {
    SavedMachine {
        definition: defined.digest.clone(),
        memory: defined.memory,
        vcpus: defined.vcpus,
    }
}

/// Lets all restored domains run at the same time.
pub(super) fn resume_together(names: &[&Name], reason: &str, plan: &mut PlanBuilder) {
    let restored: Vec<StepId> = names
        .iter()
        .map(|name| StepId::of(name, DomainStep::Restore))
        .filter(|id| plan.has(id))
        .collect();
    for name in names {
        if plan.has_domain(name, DomainStep::Restore) {
            let domain = (*name).clone();
            plan.add(Action::Continue { domain }, reason)
                .after_all(restored.iter().cloned());
        }
    }
}

/// Why saved memory is not restored; `None` if it fits.
pub(super) fn misfit(
    saved: &SavedMemory,
    definition: &Digest,
    memory: Range<Size>,
    vcpus: Range<u32>,
) -> Option<&'static str> {
    if saved.definition != *definition {
        Some("its definition changed")
    } else if (saved.memory, saved.vcpus) != (memory, vcpus) {
        Some("its memory or its vCPUs changed")
    } else {
        saved.condition.problem()
    }
}

pub(super) fn boots_instead(name: &Name, problem: &str) -> String {
    format!("`{name}` boots instead of continuing from its saved memory: {problem}")
}
