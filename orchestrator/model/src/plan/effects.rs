//! What active faults ask for, compared with what is in effect: the steps between the two.
//!
//! Shared by the plans that inject and heal faults and by those of `up` and `plan`.

mod harm;

use std::collections::BTreeSet;

use super::builder::PlanBuilder;
use super::{Action, DomainStep, Link, ServiceOrder, StepId, StopMode, guest};
use crate::definition::Affect;
use crate::fault::{Cut, Effect, Ended};
use crate::intent::Intent;
use crate::observed::{LabState, Observed, Power, Shaping};
use crate::shape::{Route, Shape};
use crate::spec::{Name, Range, Size, Spec};

pub(super) use harm::bring_back;

pub(super) const APPLIES: &str = "a fault is active";
pub(super) const ENDS: &str = "no active fault needs it";

/// Ends what no active fault asks for. Before anything is planned that needs the network.
pub(super) fn lift(spec: &Spec, intent: &Intent, observed: &Observed, plan: &mut PlanBuilder) {
    let cuts = cuts(spec, intent);
    if observed.lab == LabState::Running && cuts != observed.cuts && cuts.is_subset(&observed.cuts)
    {
        plan.add(Action::SetCuts { cuts }, ENDS);
    }
    for name in spec.domains.keys() {
        lift_of_process(intent, observed, name, plan);
    }
}

/// The same of a domain's process, with which a saved memory keeps it.
pub(super) fn lift_of_process(
    intent: &Intent,
    observed: &Observed,
    name: &Name,
    plan: &mut PlanBuilder,
) {
    let down = observed.domain(name).is_some_and(|domain| domain.link_down);
    if down && !is_unplugged(intent, name) {
        let action = Action::SetLink {
            domain: name.clone(),
            link: Link::Up,
        };
        plan.add(action, ENDS);
    }
    harm::lift_throttles(intent, observed, name, plan);
}

/// Applies what active faults ask for and what is not in effect. After everything else, which may need the network.
pub(super) fn apply(spec: &Spec, intent: &Intent, observed: &Observed, plan: &mut PlanBuilder) {
    let effects = Effects::new(spec, intent, observed, plan);
    effects.cut(plan);
    for name in spec.domains.keys() {
        effects.throttle(name, plan);
        effects.shape(name, plan);
        effects.disturb(name, plan);
        effects.stop_service(name, plan);
        effects.take_memory(name, plan);
        effects.panic(name, plan);
        effects.hold(name, plan);
        effects.unplug(name, plan);
    }
}

/// Plans steps on each domain: after all that was planned when it was made, and one after the other.
pub(super) struct Effects<'a> {
    spec: &'a Spec,
    intent: &'a Intent,
    observed: &'a Observed,
    before: Vec<StepId>,
}

impl<'a> Effects<'a> {
    pub(super) fn new(
        spec: &'a Spec,
        intent: &'a Intent,
        observed: &'a Observed,
        plan: &PlanBuilder,
    ) -> Effects<'a> {
        Effects {
            spec,
            intent,
            observed,
            before: plan.ids(),
        }
    }

    fn add(&self, name: &Name, action: Action, reason: &str, plan: &mut PlanBuilder) {
        let mut after = self.before.clone();
        after.extend(plan.ids().into_iter().filter(|id| {
            matches!(id, StepId::Domain(other, _) if other == name) && !self.before.contains(id)
        }));
        plan.add(action, reason).after_all(after);
    }

    /// Adds a step that is done in the guest.
    fn add_in_guest(&self, name: &Name, action: Action, reason: &str, plan: &mut PlanBuilder) {
        if !plan.has_domain(name, DomainStep::Reach) {
            let reach = guest::reach(&self.spec.domains[name], self.observed, plan);
            self.add(name, reach, reason, plan);
        }
        self.add(name, action, reason, plan);
    }

    fn power(&self, name: &Name) -> Power {
        let domain = self.observed.domain(name);
        domain.map_or(Power::Off, |domain| domain.power)
    }

    /// Whether it runs now, and still does after the steps so far.
    fn runs_on(&self, name: &Name, plan: &PlanBuilder) -> bool {
        self.power(name) == Power::Running && !plan.has_domain(name, DomainStep::Stop)
    }

    /// Whether it runs after the steps so far.
    fn runs(&self, name: &Name, plan: &PlanBuilder) -> bool {
        let begins = [DomainStep::Start, DomainStep::Resume, DomainStep::Continue];
        let mut begins = begins.into_iter().map(|step| plan.has_domain(name, step));
        self.runs_on(name, plan) || begins.any(|begins| begins)
    }

    fn link_down(&self, name: &Name) -> bool {
        let domain = self.observed.domain(name);
        domain.is_some_and(|domain| domain.link_down)
    }

    /// Whether no SSH gets to it, because a fault asks for that.
    fn is_out_of_reach(&self, name: &Name) -> bool {
        let unplugged = self.link_down(name) && is_unplugged(self.intent, name);
        unplugged || self.intent.holds_power(name)
    }

    fn has(&self, name: &Name, wanted: fn(&Effect) -> bool) -> bool {
        let mut faults = self.intent.faults.values();
        faults.any(|fault| wanted(&fault.effect) && fault.effect.domains().contains(name))
    }

    fn cut(&self, plan: &mut PlanBuilder) {
        let cuts = cuts(self.spec, self.intent);
        let runs = self.observed.lab == LabState::Running;
        let none = BTreeSet::new();
        let now = if runs { &self.observed.cuts } else { &none };
        if (runs || plan.has(&StepId::StartLab)) && cuts != *now && !plan.has(&StepId::SetCuts) {
            plan.add(Action::SetCuts { cuts }, APPLIES)
                .after_all(self.before.iter().cloned());
        }
    }

    /// A guest that is not reached keeps what it has until it is.
    fn shape(&self, name: &Name, plan: &mut PlanBuilder) {
        let domain = self.observed.domain(name);
        let new_disk = plan.has_domain(name, DomainStep::CreateDisk);
        let now = domain.and_then(|domain| domain.shaping.as_ref());
        let routes = routes(self.spec, self.intent, name);
        let is_so = match now.filter(|_| !new_disk) {
            None => routes.is_empty(),
            Some(Shaping {
                routes: now,
                complete,
            }) => *complete && *now == routes,
        };
        if is_so || self.is_out_of_reach(name) || !self.runs(name, plan) {
            return;
        }
        let reason = if routes.is_empty() { ENDS } else { APPLIES };
        let action = Action::Shape {
            domain: name.clone(),
            address: self.spec.domains[name].address,
            routes,
        };
        self.add_in_guest(name, action, reason, plan);
    }

    /// Stops a service that serves, or is deployed, although a fault stopped it.
    fn stop_service(&self, name: &Name, plan: &mut PlanBuilder) {
        let service = self.observed.domain(name);
        let service = service.and_then(|domain| domain.service.as_ref());
        let serves = service.is_some_and(|service| service.serving);
        let deployed = plan.has_domain(name, DomainStep::Healthy);
        if stops_service(self.intent, name)
            && ((self.runs_on(name, plan) && serves) || deployed)
            && !plan.has_domain(name, DomainStep::SetService)
        {
            self.order_service(name, ServiceOrder::Stop, APPLIES, plan);
        }
    }

    pub(super) fn order_service(
        &self,
        name: &Name,
        order: ServiceOrder,
        reason: &str,
        plan: &mut PlanBuilder,
    ) {
        let domain = name.clone();
        self.add_in_guest(name, Action::SetService { domain, order }, reason, plan);
    }

    fn take_memory(&self, name: &Name, plan: &mut PlanBuilder) {
        let faults = self.intent.faults.values();
        let least = faults.filter_map(|fault| match &fault.effect {
            Effect::Memory { domain, to } if domain == name => Some(*to),
            _ => None,
        });
        if let Some(least) = least.min() {
            self.resize(name, least, APPLIES, plan);
        }
    }

    /// Gives a domain this much memory where it has another size, now and at its next start.
    pub(super) fn resize(&self, name: &Name, current: Size, reason: &str, plan: &mut PlanBuilder) {
        let domain = self.observed.domain(name);
        let Some(defined) = domain.and_then(|domain| domain.defined.as_ref()) else {
            return;
        };
        let mut steps = [DomainStep::Resize, DomainStep::Define].into_iter();
        let planned = steps.any(|step| plan.has_domain(name, step));
        if defined.memory.current == current || current > defined.memory.maximum || planned {
            return;
        }
        let action = Action::Resize {
            domain: name.clone(),
            memory: Range {
                current,
                maximum: defined.memory.maximum,
            },
            vcpus: defined.vcpus,
            memory_affects: if self.power(name).has_process() {
                Affect::Both
            } else {
                Affect::Config
            },
            redefine: None,
        };
        self.add(name, action, reason, plan);
    }

    fn panic(&self, name: &Name, plan: &mut PlanBuilder) {
        let crashes = self.has(name, |effect| matches!(effect, Effect::Crash { .. }));
        if crashes && self.runs_on(name, plan) {
            let domain = name.clone();
            self.add_in_guest(name, Action::Panic { domain }, APPLIES, plan);
        }
    }

    /// Cuts the power, or pauses.
    fn hold(&self, name: &Name, plan: &mut PlanBuilder) {
        let stays = self.power(name).has_process() && !plan.has_domain(name, DomainStep::Stop);
        if stays && self.has(name, |effect| matches!(effect, Effect::Kill { .. })) {
            let (domain, mode) = (name.clone(), StopMode::Force);
            self.add(name, Action::Stop { domain, mode }, APPLIES, plan);
        } else if self.runs_on(name, plan)
            && self.has(name, |effect| matches!(effect, Effect::Pause { .. }))
            && !plan.has_domain(name, DomainStep::Panic)
        {
            let domain = name.clone();
            self.add(name, Action::Pause { domain }, APPLIES, plan);
        }
    }

    fn unplug(&self, name: &Name, plan: &mut PlanBuilder) {
        let starts = plan.has_domain(name, DomainStep::Start);
        let stays = self.power(name).has_process() && !plan.has_domain(name, DomainStep::Stop);
        if is_unplugged(self.intent, name) && (starts || (stays && !self.link_down(name))) {
            let (domain, link) = (name.clone(), Link::Down);
            self.add(name, Action::SetLink { domain, link }, APPLIES, plan);
        }
    }
}

/// What active faults do to what a domain sends.
pub(super) fn routes(spec: &Spec, intent: &Intent, name: &Name) -> Vec<Route> {
    let others = spec.all().filter(|other| other.name != *name);
    let routes = others.filter_map(|other| {
        let faults = intent.faults.values();
        let shapes = faults.filter_map(|fault| fault.effect.shape(name, &other.name));
        Some(Route {
            to: other.address,
            shape: shapes.reduce(Shape::and)?,
        })
    });
    routes.collect()
}

/// The domain whose service a fault stopped.
pub(super) fn stopped_service(effect: &Effect) -> Option<&Name> {
    match effect {
        Effect::Service {
            domain,
            how: Ended::Stopped,
        } => Some(domain),
        _ => None,
    }
}

pub(super) fn stops_service(intent: &Intent, name: &Name) -> bool {
    let mut faults = intent.faults.values();
    faults.any(|fault| stopped_service(&fault.effect) == Some(name))
}

/// What no active fault lets the lab's bridge forward.
fn cuts(spec: &Spec, intent: &Intent) -> BTreeSet<Cut> {
    let faults = intent.faults.values();
    faults.flat_map(|fault| fault.effect.cuts(spec)).collect()
}

pub(super) fn is_unplugged(intent: &Intent, name: &Name) -> bool {
    let mut faults = intent.faults.values();
    faults.any(|fault| matches!(&fault.effect, Effect::Link { domain } if domain == name))
}
