//! What a plan waits for in a guest that runs, and changes nothing of.

use super::builder::PlanBuilder;
use super::{Action, DomainStep, Readiness, StepId, remove};
use crate::harm::Offset;
use crate::observed::Observed;
use crate::spec::{DomainSpec, Name, Seed, Spec};

/// The steps after which a service is SERVING.
pub(super) fn healthy(name: &Name) -> [StepId; 2] {
    [DomainStep::Healthy, DomainStep::Serving].map(|step| StepId::of(name, step))
}

/// The step that waits for a guest.
pub(super) fn reach(domain: &DomainSpec, observed: &Observed, plan: &PlanBuilder) -> Action {
    Action::Reach {
        domain: domain.name.clone(),
        firmware: domain.firmware.clone(),
        boot_timeout: domain.boot_timeout,
        clock: clock(&domain.name, observed, plan),
    }
}

/// How far pspd set a guest's clock off. A new system disk has nothing of that.
fn clock(name: &Name, observed: &Observed, plan: &PlanBuilder) -> Offset {
    let disturbed = observed.domain(name).and_then(|it| it.disturbed.as_ref());
    match disturbed {
        Some(disturbed) if !plan.has_domain(name, DomainStep::CreateDisk) => disturbed.by.clock,
        _ => Offset(0),
    }
}

/// Waits for a guest.
pub(super) fn await_guest(
    domain: &DomainSpec,
    observed: &Observed,
    reason: &str,
    plan: &mut PlanBuilder,
) {
    let action = reach(domain, observed, plan);
    let of = |step: DomainStep| StepId::of(&domain.name, step);
    plan.add(action, reason)
        .if_planned(StepId::CreateKeys)
        .if_any_planned(remove::roused(&domain.name))
        .if_planned(of(DomainStep::Start))
        .if_planned(of(DomainStep::Restart));
}

/// Waits for the service that a guest has.
pub(super) fn await_service(domain: &DomainSpec, reason: &str, plan: &mut PlanBuilder) {
    let Some(service) = &domain.service else {
        return;
    };
    let action = Action::Serving {
        domain: domain.name.clone(),
        readiness: Readiness::of(service),
    };
    let of = |step: DomainStep| StepId::of(&domain.name, step);
    plan.add(action, reason)
        .if_any_planned(remove::roused(&domain.name))
        .if_planned(of(DomainStep::SetClock))
        .if_planned(of(DomainStep::Reach))
        .if_any_planned(domain.depends_on.iter().flat_map(healthy));
}

/// Waits for a service of another host, which that host's own run starts.
pub(super) fn await_elsewhere(domain: &DomainSpec, plan: &mut PlanBuilder) {
    let Some(service) = &domain.service else {
        return;
    };
    if plan.has_domain(&domain.name, DomainStep::Serving) {
        return;
    }
    let action = Action::Serving {
        domain: domain.name.clone(),
        readiness: Readiness::of(service),
    };
    let reason = match &domain.host {
        Some(host) => format!("it is on `{host}`, and others here depend on it"),
        None => "others here depend on it".to_owned(),
    };
    plan.add(action, reason)
        .if_planned(StepId::StartLab)
        .if_planned(StepId::StartNetwork);
}

/// Sets the clock of a guest that was paused, where its image does not do that.
pub(super) fn set_clock(
    spec: &Spec,
    domain: &DomainSpec,
    observed: &Observed,
    reason: &str,
    plan: &mut PlanBuilder,
) {
    let image = spec.images.get(&domain.image);
    if image.is_none_or(|image| image.seed == Seed::Credentials) {
        return;
    }
    let name = &domain.name;
    let action = Action::SetClock {
        domain: name.clone(),
        clock: clock(name, observed, plan),
    };
    plan.add(action, reason)
        .if_any_planned(remove::roused(name));
}
