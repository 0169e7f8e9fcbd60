//! Faults: what is planned to apply them and to end them.
//!
//! A fault is recorded before it is applied, and forgotten after it ended: what is in effect without a record is never
//! pspd's, and what is recorded and not in effect is applied by the next plan.

use std::collections::BTreeSet;
use std::time::Duration;

use super::builder::PlanBuilder;
use super::domain::DomainPlanner;
use super::order::Order;
use super::{Action, DomainStep, Link, Plan, PlanError, StepId, StopMode, memory};
use crate::fault::{Cut, Effect, Fault};
use crate::intent::Intent;
use crate::observed::{LabState, Observed, Power};
use crate::spec::{Connection, Name, Spec};

const APPLIES: &str = "a fault is active";
const ENDS: &str = "no active fault asks for it";

pub(super) fn inject(
    spec: &Spec,
    intent: &Intent,
    observed: &Observed,
    effect: Effect,
    lasts: Option<Duration>,
) -> Result<(Name, Plan), PlanError> {
    refuse(spec, observed, &effect)?;
    let id = intent.free_id(&effect);
    let fault = Fault::new(effect, observed.clock, lasts);
    let mut next = intent.clone();
    next.faults.insert(id.clone(), fault);
    let mut plan = PlanBuilder::default();
    let action = Action::RecordIntent {
        intent: next.clone(),
        before: intent.clone(),
    };
    plan.add(action, format!("the fault `{id}` begins"));
    let next = next.at(observed.clock);
    lift(spec, &next, observed, &mut plan);
    apply(spec, &next, observed, &mut plan);
    Ok((id, plan.finish()))
}

fn refuse(spec: &Spec, observed: &Observed, effect: &Effect) -> Result<(), PlanError> {
    let deployment = || spec.name.clone();
    match effect {
        Effect::Partition { from, to, .. } => {
            if let Some(domain) = from.intersection(to).next().cloned() {
                return Err(PlanError::OneDomain { domain });
            }
        }
        Effect::Isolate { .. } => {}
        _ => {
            for domain in effect.domains() {
                let power = observed.domain(domain).map_or(Power::Off, |it| it.power);
                if power != Power::Running {
                    let domain = domain.clone();
                    return Err(PlanError::NeedsRunning { domain });
                }
            }
            return Ok(());
        }
    }
    match (&spec.connection, observed.lab) {
        (connection @ Connection::Uri(_), _) => Err(PlanError::NeedsLab {
            deployment: deployment(),
            connection: connection.clone(),
        }),
        (Connection::Lab, LabState::Running) => Ok(()),
        (Connection::Lab, _) => Err(PlanError::NotUp {
            deployment: deployment(),
        }),
    }
}

pub(super) fn heal(
    spec: &Spec,
    intent: &Intent,
    observed: &Observed,
    ids: &BTreeSet<Name>,
) -> Result<Plan, PlanError> {
    if let Some(id) = ids.iter().find(|id| !intent.faults.contains_key(*id)) {
        let active: Vec<&str> = intent.faults.keys().map(Name::as_str).collect();
        return Err(PlanError::UnknownFault {
            id: id.clone(),
            active: match active[..] {
                [] => "none".to_owned(),
                _ => active.join(", "),
            },
        });
    }
    let mut next = intent.at(observed.clock);
    next.faults.retain(|id, _| !ids.contains(id));
    let mut plan = PlanBuilder::default();
    lift(spec, &next, observed, &mut plan);
    free(spec, intent, &next, observed, &mut plan)?;
    apply(spec, &next, observed, &mut plan);
    if next != *intent {
        let steps = plan.ids();
        let action = Action::RecordIntent {
            intent: next,
            before: intent.clone(),
        };
        plan.add(action, "faults end").after_all(steps);
    }
    Ok(plan.finish())
}

/// Brings back the domains whose power no fault holds any longer.
fn free(
    spec: &Spec,
    before: &Intent,
    next: &Intent,
    observed: &Observed,
    plan: &mut PlanBuilder,
) -> Result<(), PlanError> {
    let order = Order::of(spec);
    let freed = order.dependencies_first.iter().map(|domain| &domain.name);
    let freed = freed.filter(|name| before.holds_power(name) && !next.holds_power(name));
    for name in freed {
        let planner = DomainPlanner {
            spec,
            intent: next,
            observed,
            domain: &spec.domains[name],
            disturbed: next.disturbs(name),
            network_stops: false,
        };
        planner.recover(plan);
        planner.stop(&order, plan);
        let fresh_disk = planner.begin(plan)?;
        memory::resume_together(&[name], "its memory was restored", plan);
        planner.guest(fresh_disk, plan);
    }
    Ok(())
}

/// Ends what no active fault asks for. Before anything is planned that needs the network.
pub(super) fn lift(spec: &Spec, intent: &Intent, observed: &Observed, plan: &mut PlanBuilder) {
    let cuts = cuts(spec, intent);
    if observed.lab == LabState::Running && cuts != observed.cuts && cuts.is_subset(&observed.cuts)
    {
        plan.add(Action::SetCuts { cuts }, ENDS);
    }
    for name in spec.domains.keys() {
        let down = observed.domain(name).is_some_and(|domain| domain.link_down);
        if down && !is_unplugged(intent, name) {
            let action = Action::SetLink {
                domain: name.clone(),
                link: Link::Up,
            };
            plan.add(action, ENDS);
        }
    }
}

/// Applies what active faults ask for and what is not in effect. After everything else, which may need the network.
pub(super) fn apply(spec: &Spec, intent: &Intent, observed: &Observed, plan: &mut PlanBuilder) {
    let before = plan.ids();
    let cuts = cuts(spec, intent);
    let runs = observed.lab == LabState::Running;
    let none = BTreeSet::new();
    let now = if runs { &observed.cuts } else { &none };
    if (runs || plan.has(&StepId::StartLab)) && cuts != *now && !plan.has(&StepId::SetCuts) {
        plan.add(Action::SetCuts { cuts }, APPLIES)
            .after_all(before.iter().cloned());
    }
    for name in spec.domains.keys() {
        domain(intent, observed, name, &before, plan);
    }
}

fn domain(
    intent: &Intent,
    observed: &Observed,
    name: &Name,
    before: &[StepId],
    plan: &mut PlanBuilder,
) {
    let observed = observed.domain(name);
    let power = observed.map_or(Power::Off, |domain| domain.power);
    let starts = plan.has_domain(name, DomainStep::Start);
    let stays = power.has_process() && !plan.has_domain(name, DomainStep::Stop);
    let holds = |wanted: fn(&Effect) -> bool| {
        let mut faults = intent.faults.values();
        faults.any(|fault| wanted(&fault.effect) && fault.effect.domains().contains(name))
    };
    let mut actions = Vec::new();
    if stays && holds(|effect| matches!(effect, Effect::Kill { .. })) {
        let (domain, mode) = (name.clone(), StopMode::Force);
        actions.push(Action::Stop { domain, mode });
    } else {
        let runs = stays && power == Power::Running;
        if runs && holds(|effect| matches!(effect, Effect::Pause { .. })) {
            let domain = name.clone();
            actions.push(Action::Pause { domain });
        }
        let is_up = observed.is_some_and(|domain| !domain.link_down);
        if is_unplugged(intent, name) && (starts || (stays && is_up)) {
            let (domain, link) = (name.clone(), Link::Down);
            actions.push(Action::SetLink { domain, link });
        }
    }
    for action in actions {
        plan.add(action, APPLIES).after_all(before.iter().cloned());
    }
}

/// What no active fault lets the lab's bridge forward.
fn cuts(spec: &Spec, intent: &Intent) -> BTreeSet<Cut> {
    let faults = intent.faults.values();
    faults.flat_map(|fault| fault.effect.cuts(spec)).collect()
}

fn is_unplugged(intent: &Intent, name: &Name) -> bool {
    let mut faults = intent.faults.values();
    faults.any(|fault| matches!(&fault.effect, Effect::Link { domain } if domain == name))
}
