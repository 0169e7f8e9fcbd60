//! The plans of the commands for power: start, stop, restart, pause, resume, save, restore.
//!
//! They change nothing but power: what differs from the topology otherwise is left to `up`.
//!
//! ```text
//! save:     gather (each) -> pause (each) -> save (each)
//! restore:  restore (each) -> continue (each) -> serving (each)
//! ```
//! An arrow waits for the whole group before it: all guests are paused while memory is written, and resumed together.

use std::collections::BTreeSet;

use super::builder::PlanBuilder;
use super::order::Order;
use super::{
    Action, DomainStep, Plan, PlanError, SavedState, StepId, StopMode, guest, memory, remove, up,
};
use crate::intent::{Intent, PowerIntent};
use crate::observed::{Crash, Defined, LabState, Observed, ObservedDomain, Power, SavedMemory};
use crate::spec::{DomainSpec, Name, Spec};

/// What a command asks of the domains that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerGoal {
    Start,
    Stop(StopMode),
    Restart(Restart),
    Pause,
    Resume,
    Save,
    Restore,
}

/// How a domain that runs starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// The guest restarts, and its process stays.
    Warm,
    /// The domain is stopped and started.
    Cold,
}

impl PowerGoal {
    /// The command, and the reason of its steps.
    pub fn word(self) -> &'static str {
        match self {
            PowerGoal::Start => "start",
            PowerGoal::Stop(_) => "stop",
            PowerGoal::Restart(_) => "restart",
            PowerGoal::Pause => "pause",
            PowerGoal::Resume => "resume",
            PowerGoal::Save => "save",
            PowerGoal::Restore => "restore",
        }
    }

    fn reason(self) -> &'static str {
        match self {
            PowerGoal::Start => "`pspd start`",
            PowerGoal::Stop(_) => "`pspd stop`",
            PowerGoal::Restart(_) => "`pspd restart`",
            PowerGoal::Pause => "`pspd pause`",
            PowerGoal::Resume => "`pspd resume`",
            PowerGoal::Save => "`pspd save`",
            PowerGoal::Restore => "`pspd restore`",
        }
    }
}

/// Plans a goal for the named domains, or without names for all that it can be asked of.
pub(super) fn plan(
    spec: &Spec,
    intent: &Intent,
    observed: &Observed,
    goal: PowerGoal,
    names: &BTreeSet<Name>,
) -> Result<Plan, PlanError> {
    up::reject_foreign(spec, observed)?;
    if goal != PowerGoal::Stop(StopMode::Force) {
        up::reject_stopped(spec, observed)?;
    }
    if matches!(observed.lab, LabState::Absent | LabState::Stopped) {
        let deployment = spec.name.clone();
        return Err(PlanError::NotUp { deployment });
    }
    let order = Order::of(spec);
    let wanted = |domain: &&DomainSpec| names.is_empty() || names.contains(&domain.name);
    let mut selected = Vec::new();
    for domain in order.dependencies_first.iter().copied().filter(wanted) {
        match can(goal, domain, intent, observed) {
            Ok(()) => selected.push(domain),
            Err(_) if names.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    if selected.is_empty() && goal == PowerGoal::Restore {
        let deployment = spec.name.clone();
        return Err(PlanError::NothingSaved { deployment });
    }
    let next = intended(intent, observed, goal, &selected);
    let mut planner = Planner {
        spec,
        observed,
        goal,
        order: &order,
        unavailable: unavailable(&order, &next, observed, goal, &selected),
        plan: PlanBuilder::default(),
    };
    if next != *intent {
        let action = Action::RecordIntent {
            intent: next,
            before: intent.clone(),
        };
        planner.plan.add(action, goal.reason());
    }
    planner.plan_all(&selected);
    Ok(planner.plan.finish())
}

/// Whether the goal can be asked of a domain.
fn can(
    goal: PowerGoal,
    domain: &DomainSpec,
    intent: &Intent,
    observed: &Observed,
) -> Result<(), PlanError> {
    let name = || domain.name.clone();
    if let Some(fault) = intent.fault_of_power(&domain.name) {
        return Err(PlanError::Faulty {
            domain: name(),
            fault: fault.clone(),
        });
    }
    let now = observed.domain(&domain.name);
    let Some((now, defined)) = now.and_then(|now| Some((now, now.defined.as_ref()?))) else {
        return Err(PlanError::NotDefined { domain: name() });
    };
    let not_running = || PlanError::NotRunning {
        domain: name(),
        power: now.power,
        saved: now.memory.is_some(),
    };
    match goal {
        PowerGoal::Start | PowerGoal::Stop(_) | PowerGoal::Restart(_) => Ok(()),
        PowerGoal::Pause => match now.power {
            Power::Running | Power::Paused(_) => Ok(()),
            _ => Err(not_running()),
        },
        PowerGoal::Resume => match now.power {
            Power::Running | Power::Paused(_) | Power::Suspended => Ok(()),
            _ => Err(not_running()),
        },
        PowerGoal::Save => match now.power {
            Power::Crashed(_) | Power::Off | Power::ShutDown => Err(not_running()),
            _ if !defined.persistent => Err(PlanError::NotDefined { domain: name() }),
            _ => Ok(()),
        },
        PowerGoal::Restore if now.power.has_process() => Err(PlanError::Running { domain: name() }),
        PowerGoal::Restore if now.power == Power::Saved => Ok(()),
        PowerGoal::Restore => match &now.memory {
            None => Err(PlanError::NotSaved { domain: name() }),
            Some(memory) => match misfit_of_definition(memory, defined) {
                None => Ok(()),
                Some(problem) => Err(PlanError::Unusable {
                    domain: name(),
                    problem,
                }),
            },
        },
    }
}

/// What the user's intent becomes.
fn intended(
    intent: &Intent,
    observed: &Observed,
    goal: PowerGoal,
    selected: &[&DomainSpec],
) -> Intent {
    let mut next = intent.clone();
    for domain in selected {
        let name = &domain.name;
        let has_process = observed
            .domain(name)
            .is_some_and(|now| now.power.has_process());
        match goal {
            PowerGoal::Start | PowerGoal::Restart(_) | PowerGoal::Restore | PowerGoal::Resume => {
                next.power.remove(name);
            }
            PowerGoal::Stop(_) => {
                // What was saved stays so.
                if has_process || next.power.get(name) != Some(&PowerIntent::Saved) {
                    next.power.insert(name.clone(), PowerIntent::Stopped);
                }
            }
            PowerGoal::Pause => _ = next.power.insert(name.clone(), PowerIntent::Paused),
            PowerGoal::Save => _ = next.power.insert(name.clone(), PowerIntent::Saved),
        }
    }
    next
}

/// Domains whose services cannot be waited for: something that they depend on does not run, or has a fault.
fn unavailable<'a>(
    order: &Order<'a>,
    next: &Intent,
    observed: &Observed,
    goal: PowerGoal,
    selected: &[&DomainSpec],
) -> BTreeSet<&'a Name> {
    let mut unavailable = BTreeSet::new();
    for domain in &order.dependencies_first {
        let started = goal.starts() && selected.iter().any(|it| it.name == domain.name);
        let runs = observed
            .domain(&domain.name)
            .is_some_and(|now| now.power == Power::Running);
        let depends = domain
            .depends_on
            .iter()
            .any(|name| unavailable.contains(name));
        if depends || next.disturbs(&domain.name) || !(started || runs) {
            unavailable.insert(&domain.name);
        }
    }
    unavailable
}

impl PowerGoal {
    /// Whether domains run afterwards.
    fn starts(self) -> bool {
        match self {
            PowerGoal::Start | PowerGoal::Restart(_) | PowerGoal::Resume | PowerGoal::Restore => {
                true
            }
            PowerGoal::Stop(_) | PowerGoal::Pause | PowerGoal::Save => false,
        }
    }
}

struct Planner<'a> {
    spec: &'a Spec,
    observed: &'a Observed,
    goal: PowerGoal,
    order: &'a Order<'a>,
    unavailable: BTreeSet<&'a Name>,
    plan: PlanBuilder,
}

impl Planner<'_> {
    fn plan_all(&mut self, selected: &[&DomainSpec]) {
        match self.goal {
            PowerGoal::Stop(mode) => self.stop(selected, mode),
            PowerGoal::Pause => {
                for domain in selected {
                    if self.power(&domain.name) == Power::Running {
                        let domain = domain.name.clone();
                        self.plan.add(Action::Pause { domain }, self.goal.reason());
                    }
                }
            }
            PowerGoal::Save => {
                let names: Vec<&Name> = selected.iter().map(|domain| &domain.name).collect();
                memory::save(
                    self.spec,
                    self.observed,
                    &names,
                    self.goal.reason(),
                    &mut self.plan,
                );
            }
            PowerGoal::Start | PowerGoal::Restart(_) | PowerGoal::Resume | PowerGoal::Restore => {
                self.start(selected);
            }
        }
    }

    fn power(&self, name: &Name) -> Power {
        self.observed
            .domain(name)
            .map_or(Power::Off, |domain| domain.power)
    }

    fn stop(&mut self, selected: &[&DomainSpec], mode: StopMode) {
        for domain in selected.iter().rev() {
            let name = &domain.name;
            if mode == StopMode::Force {
                if self.power(name).has_process() {
                    let domain = name.clone();
                    self.plan
                        .add(Action::Stop { domain, mode }, self.goal.reason());
                }
                continue;
            }
            self.shut_down(name);
        }
    }

    /// Shuts a domain down that has a process, after those that depend on it.
    fn shut_down(&mut self, name: &Name) {
        let after: Vec<StepId> = self
            .order
            .dependents(name)
            .map(|dependent| StepId::of(dependent, DomainStep::Stop))
            .collect();
        remove::rouse(name, self.power(name), &mut self.plan);
        remove::merge(name, self.observed, &mut self.plan);
        let disk = remove::SystemDisk::Kept;
        let reason = self.goal.reason();
        remove::stop(
            self.spec,
            self.observed,
            name,
            disk,
            &after,
            reason,
            &mut self.plan,
        );
    }

    /// Makes domains run, and waits for their services.
    fn start(&mut self, selected: &[&DomainSpec]) {
        if self.goal == PowerGoal::Restart(Restart::Cold) {
            for domain in selected.iter().rev() {
                self.shut_down(&domain.name);
            }
        }
        for domain in selected {
            self.run(domain);
        }
        let names: Vec<&Name> = selected.iter().map(|domain| &domain.name).collect();
        memory::resume_together(&names, self.goal.reason(), &mut self.plan);
        for domain in selected {
            self.guest(domain);
        }
    }

    /// The step that makes a domain run, if it does not.
    fn run(&mut self, domain: &DomainSpec) {
        let (name, reason) = (&domain.name, self.goal.reason());
        let power = self.power(name);
        let of = |step: DomainStep| StepId::of(name, step);
        if power == Power::Crashed(Crash::Guest) && !self.plan.has(&of(DomainStep::Stop)) {
            let (domain, mode) = (name.clone(), StopMode::Force);
            self.plan
                .add(Action::Stop { domain, mode }, "the guest's kernel panicked");
        }
        if power.has_process() && !self.plan.has(&of(DomainStep::Stop)) {
            remove::rouse(name, power, &mut self.plan);
            if self.goal == PowerGoal::Restart(Restart::Warm) {
                self.gather(domain);
                let domain = name.clone();
                self.plan
                    .add(Action::Restart { domain }, reason)
                    .if_any_planned(remove::roused(name))
                    .if_planned(of(DomainStep::Gather));
            }
            return;
        }
        remove::merge(name, self.observed, &mut self.plan);
        let now = self.observed.domain(name);
        let defined = now.and_then(|now| now.defined.as_ref());
        let memory = now.and_then(|now| now.memory.as_ref());
        if let (Some(memory), Some(defined), false) = (memory, defined, power.has_process()) {
            match misfit_of_definition(memory, defined) {
                None => {
                    let domain = name.clone();
                    self.plan
                        .add(Action::Restore { domain }, reason)
                        .if_planned(of(DomainStep::Merge));
                    return;
                }
                Some(problem) => self.plan.note(memory::boots_instead(name, problem)),
            }
        }
        let other_disks = now.is_some_and(ObservedDomain::has_other_disks);
        let saved_state = if power == Power::Saved && other_disks {
            self.plan
                .note(memory::boots_instead(name, "its disks changed"));
            SavedState::Discard
        } else {
            SavedState::Restore
        };
        let domain = name.clone();
        self.plan
            .add(
                Action::Start {
                    domain,
                    saved_state,
                },
                reason,
            )
            .if_planned(of(DomainStep::Merge))
            .if_planned(of(DomainStep::Stop));
    }

    fn gather(&mut self, domain: &DomainSpec) {
        if domain.service.is_none() {
            return;
        }
        let (name, reason) = (&domain.name, self.goal.reason());
        if let Some(address) = remove::address(self.spec, self.observed, name) {
            let domain = name.clone();
            self.plan
                .add(Action::Gather { domain, address }, reason)
                .if_any_planned(remove::roused(name));
        }
    }

    /// Waits for a guest that was started, and for its service.
    fn guest(&mut self, domain: &DomainSpec) {
        let (name, reason) = (&domain.name, self.goal.reason());
        let has = |step: DomainStep| self.plan.has_domain(name, step);
        if has(DomainStep::Start) || has(DomainStep::Restart) {
            guest::await_guest(domain, self.observed, reason, &mut self.plan);
        } else if has(DomainStep::Continue) || has(DomainStep::Resume) {
            guest::set_clock(self.spec, domain, self.observed, reason, &mut self.plan);
        } else if !has(DomainStep::Wake) {
            return;
        }
        if domain.service.is_none() {
            return;
        }
        if self.unavailable.contains(name) {
            let missing = domain
                .depends_on
                .iter()
                .find(|it| self.unavailable.contains(it));
            if let Some(missing) = missing {
                self.plan.note(format!(
                    "not waiting for the service of `{name}`: its dependency `{missing}` is not running normally"
                ));
            }
            return;
        }
        guest::await_service(domain, reason, &mut self.plan);
    }
}

fn misfit_of_definition(memory: &SavedMemory, defined: &Defined) -> Option<&'static str> {
    memory::misfit(memory, &defined.digest, defined.memory, defined.vcpus)
}
