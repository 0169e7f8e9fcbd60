//! Faults: what is planned to apply them and to end them.
//!
//! A fault is recorded before it is applied, and forgotten after it ended: what is in effect without a record is never
//! pspd's, and what is recorded and not in effect is applied by the next plan.

use std::collections::BTreeSet;
use std::time::Duration;

use super::builder::PlanBuilder;
use super::domain::DomainPlanner;
use super::effects::{
    APPLIES, ENDS, Effects, apply, is_unplugged, lift, routes, stopped_service, stops_service,
};
use super::order::Order;
use super::{Action, Plan, PlanError, ServiceOrder, memory};
use crate::fault::{Effect, Fault};
use crate::harm::DiskHarm;
use crate::intent::Intent;
use crate::observed::{LabState, Observed, Power};
use crate::shape::Shape;
use crate::spec::{Connection, Name, SYSTEM_DISK, Size, Spec};

/// Of the 16 bands of a guest's queue, one is for what is not shaped.
const DELAYS: usize = 15;

pub(super) fn inject(
    spec: &Spec,
    intent: &Intent,
    observed: &Observed,
    effect: Effect,
    lasts: Option<Duration>,
) -> Result<(Name, Plan), PlanError> {
    refuse(spec, observed, &effect)?;
    let id = intent.free_id(&effect);
    if effect.is_momentary() {
        let mut plan = PlanBuilder::default();
        let effects = Effects::new(spec, intent, observed, &plan);
        for name in effect.domains() {
            effects.order_service(name, ServiceOrder::Kill, "the fault kills it", &mut plan);
        }
        return Ok((id, plan.finish()));
    }
    let stopped = stopped_service(&effect).cloned();
    let fault = Fault::new(effect, observed.clock, lasts);
    let mut next = intent.clone();
    next.faults.insert(id.clone(), fault);
    let mut plan = PlanBuilder::default();
    let action = Action::RecordIntent {
        intent: next.clone(),
        before: intent.clone(),
    };
    plan.add(action, format!("the fault `{id}` begins"));
    refuse_many_delays(spec, &next)?;
    lift(spec, &next, observed, &mut plan);
    if let Some(name) = stopped {
        // Whether it serves is not observed here.
        let effects = Effects::new(spec, &next, observed, &plan);
        effects.order_service(&name, ServiceOrder::Stop, APPLIES, &mut plan);
    }
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
        Effect::Delay { from, to, .. } if from == to => {
            let domain = from.clone();
            return Err(PlanError::OneDomain { domain });
        }
        _ => {
            // A delay may be between this host and another.
            let own = |name: &&Name| spec.domains.contains_key(*name);
            for domain in effect.domains().into_iter().filter(own) {
                let power = observed.domain(domain).map_or(Power::Off, |it| it.power);
                if power != Power::Running {
                    let domain = domain.clone();
                    return Err(PlanError::NeedsRunning { domain });
                }
                let by_ssh = matches!(
                    effect,
                    Effect::Delay { .. }
                        | Effect::Crash { .. }
                        | Effect::Service { .. }
                        | Effect::Clock { .. }
                        | Effect::Cpu { .. }
                        | Effect::Disk {
                            harm: DiskHarm::Full | DiskHarm::Fail,
                            ..
                        }
                );
                if by_ssh && observed.domain(domain).is_some_and(|it| it.link_down) {
                    let domain = domain.clone();
                    return Err(PlanError::Unplugged { domain });
                }
            }
            return refuse_of_domain(spec, observed, effect);
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

fn refuse_of_domain(spec: &Spec, observed: &Observed, effect: &Effect) -> Result<(), PlanError> {
    match effect {
        Effect::Service { domain, .. } if spec.domains[domain].service.is_none() => {
            let domain = domain.clone();
            Err(PlanError::NoService { domain })
        }
        Effect::Disk {
            domain,
            disk,
            harm: DiskHarm::Fail,
        } if disk.as_str() == SYSTEM_DISK => {
            let domain = domain.clone();
            Err(PlanError::SystemDiskFails { domain })
        }
        Effect::Memory { domain, to } => {
            let defined = observed.domain(domain).and_then(|it| it.defined.as_ref());
            let has = defined.map_or(Size(0), |defined| defined.memory.current);
            if *to < has {
                return Ok(());
            }
            let domain = domain.clone();
            Err(PlanError::MoreMemory { domain, has })
        }
        _ => Ok(()),
    }
}

fn refuse_many_delays(spec: &Spec, next: &Intent) -> Result<(), PlanError> {
    for name in spec.domains.keys() {
        let routes = routes(spec, next, name);
        let shapes: BTreeSet<Shape> = routes.into_iter().map(|route| route.shape).collect();
        if shapes.len() > DELAYS {
            return Err(PlanError::TooManyDelays {
                domain: name.clone(),
                most: DELAYS,
            });
        }
    }
    Ok(())
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
    give_back(spec, intent, &next, observed, &mut plan);
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

/// Brings back the domains whose power no fault holds now.
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

/// Starts services that no fault stops now, and returns memory.
fn give_back(
    spec: &Spec,
    before: &Intent,
    next: &Intent,
    observed: &Observed,
    plan: &mut PlanBuilder,
) {
    let effects = Effects::new(spec, next, observed, plan);
    for (name, domain) in &spec.domains {
        let now = observed.domain(name);
        let answers = now.is_some_and(|domain| {
            let unplugged = domain.link_down && is_unplugged(next, name);
            domain.power == Power::Running && !unplugged
        });
        if answers && stops_service(before, name) && !stops_service(next, name) {
            effects.order_service(name, ServiceOrder::Start, ENDS, plan);
        }
        if before.holds_memory(name) && !next.holds_memory(name) {
            effects.resize(name, domain.memory.current, ENDS, plan);
        }
    }
}
