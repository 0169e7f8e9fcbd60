//! Slow disks, and what disturbs guests from within: what active faults ask for, and what is in effect.

use super::{APPLIES, ENDS, Effects};
use crate::fault::Effect;
use crate::harm::{DiskHarm, Disturbance, Offset, Throttle, WHOLE};
use crate::intent::Intent;
use crate::observed::{Disturbed, Observed};
use crate::plan::builder::PlanBuilder;
use crate::plan::{Action, DomainStep, StepId};
use crate::spec::{Name, Spec};

/// Removes the limits of disks that no active fault slows.
pub(super) fn lift_throttles(
    intent: &Intent,
    observed: &Observed,
    name: &Name,
    plan: &mut PlanBuilder,
) {
    let running = observed.domain(name).filter(|it| it.power.has_process());
    let slow = running.into_iter().flat_map(|it| it.throttles.keys());
    for disk in slow.filter(|disk| throttle(intent, name, disk).is_none()) {
        let action = Action::Throttle {
            domain: name.clone(),
            disk: disk.clone(),
            limit: Throttle::default(),
        };
        plan.add(action, ENDS);
    }
}

/// Brings disks back that no active fault fills or lets fail, in a guest that this plan reaches: what follows may need them.
pub(in crate::plan) fn bring_back(
    spec: &Spec,
    intent: &Intent,
    observed: &Observed,
    name: &Name,
    plan: &mut PlanBuilder,
) {
    let by = disturbance(spec, intent, name);
    let now = now(observed, name, plan);
    let ends = |disk: &Name| !by.full.contains_key(disk) && !by.failing.contains_key(disk);
    let left = now.is_some_and(|now| now.by.full.keys().chain(now.by.failing.keys()).any(ends));
    if left {
        let domain = name.clone();
        plan.add(Action::Disturb { domain, by }, ENDS)
            .after(StepId::of(name, DomainStep::Reach));
    }
}

/// What disturbs a guest, as far as its system disk stays.
fn now<'a>(observed: &'a Observed, name: &Name, plan: &PlanBuilder) -> Option<&'a Disturbed> {
    let domain = observed.domain(name)?;
    let new_disk = plan.has_domain(name, DomainStep::CreateDisk);
    domain.disturbed.as_ref().filter(|_| !new_disk)
}

impl Effects<'_> {
    /// Limits last as long as the domain's process.
    pub(super) fn throttle(&self, name: &Name, plan: &mut PlanBuilder) {
        let domain = self.observed.domain(name);
        let stays = self.power(name).has_process() && !plan.has_domain(name, DomainStep::Stop);
        let mut starts = [DomainStep::Start, DomainStep::Restore].into_iter();
        if !stays && !starts.any(|step| plan.has_domain(name, step)) {
            return;
        }
        for disk in self.spec.domains[name].disks() {
            let limit = throttle(self.intent, name, disk);
            let now = domain.and_then(|domain| domain.throttles.get(disk).copied());
            let is_so = stays && now.unwrap_or_default() == limit;
            if !is_so && !limit.is_none() {
                let action = Action::Throttle {
                    domain: name.clone(),
                    disk: disk.to_owned(),
                    limit,
                };
                self.add(name, action, APPLIES, plan);
            }
        }
    }

    /// A guest that is not reached keeps what it has until it is. One that starts may have lost something of it.
    pub(super) fn disturb(&self, name: &Name, plan: &mut PlanBuilder) {
        let by = disturbance(self.spec, self.intent, name);
        let starts = plan.has_domain(name, DomainStep::Start);
        let is_so = match now(self.observed, name, plan) {
            None => by.is_none(),
            Some(now) => now.complete && now.by == by && !starts,
        };
        if is_so
            || self.is_out_of_reach(name)
            || !self.runs(name, plan)
            || plan.has_domain(name, DomainStep::Disturb)
        {
            return;
        }
        let reason = if by.is_none() { ENDS } else { APPLIES };
        let domain = name.clone();
        self.add_in_guest(name, Action::Disturb { domain, by }, reason, plan);
    }
}

/// How fast active faults let a disk be.
fn throttle(intent: &Intent, name: &Name, of: &str) -> Throttle {
    let faults = intent.faults.values();
    let limits = faults.filter_map(|fault| match &fault.effect {
        Effect::Disk {
            domain,
            disk,
            harm: DiskHarm::Slow(limit),
        } if domain == name && disk.as_str() == of => Some(*limit),
        _ => None,
    });
    limits.fold(Throttle::default(), Throttle::and)
}

/// What active faults do within a guest.
fn disturbance(spec: &Spec, intent: &Intent, name: &Name) -> Disturbance {
    let mut by = Disturbance::default();
    for fault in intent.faults.values() {
        match &fault.effect {
            Effect::Disk { domain, disk, harm } if domain == name => {
                let disks = match harm {
                    DiskHarm::Slow(_) => continue,
                    DiskHarm::Full => &mut by.full,
                    DiskHarm::Fail => &mut by.failing,
                };
                if let Some(mount) = spec.domains[name].mount_of(disk) {
                    disks.insert(disk.clone(), mount);
                }
            }
            Effect::Clock { domain, skew } if domain == name => {
                by.clock = Offset(by.clock.0.saturating_add(skew.0));
            }
            Effect::Cpu { domain, burn } if domain == name => {
                by.burn = by.burn.saturating_add(*burn).min(WHOLE);
            }
            _ => {}
        }
    }
    // Nothing can be written to a disk that fails.
    let failing = &by.failing;
    by.full.retain(|disk, _| !failing.contains_key(disk));
    by
}
