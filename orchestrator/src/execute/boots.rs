//! How many guests boot at a time.
//!
//! A boot begins with a domain's start and ends when its guest was reached. An emulated guest that boots keeps one of the
//! host's processors busy: more of them at a time reach nothing sooner, and come closer to their deadlines.

use std::collections::BTreeSet;
use std::thread::available_parallelism;

use pspd_model::plan::{Action, DomainStep, Plan, StepId};
use pspd_model::spec::Name;

/// The boots of one run.
#[derive(Default)]
pub(super) struct Boots {
    /// The domains whose guests are waited for after their start.
    awaited: BTreeSet<Name>,
    under_way: BTreeSet<Name>,
}

impl Boots {
    pub(super) fn of(plan: &Plan) -> Boots {
        let reached = plan.steps.iter().filter_map(|step| match &step.id {
            StepId::Domain(name, DomainStep::Reach) => Some(name.clone()),
            _ => None,
        });
        Boots {
            awaited: reached.collect(),
            under_way: BTreeSet::new(),
        }
    }

    /// Whether a step may begin where `most` guests boot at a time.
    pub(super) fn permit(&self, action: &Action, most: usize) -> bool {
        !matches!(action, Action::Start { .. }) || self.under_way.len() < most
    }

    pub(super) fn started(&mut self, action: &Action) {
        if let Action::Start { domain, .. } = action {
            self.under_way.insert(domain.clone());
        }
    }

    /// Notes the end of a step; a boot ends early if its start failed.
    pub(super) fn ended(&mut self, action: &Action, well: bool) {
        match action {
            Action::Start { domain, .. } if !well || !self.awaited.contains(domain) => {
                self.under_way.remove(domain);
            }
            Action::Reach { domain, .. } => {
                self.under_way.remove(domain);
            }
            _ => {}
        }
    }
}

/// The number of emulated guests that boot at a time.
pub(super) fn most_emulated() -> usize {
    available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pspd_model::plan::{SavedState, Step};
    use pspd_model::spec::Firmware;

    fn start(name: &str) -> Action {
        Action::Start {
            domain: Name::new(name).unwrap(),
            saved_state: SavedState::Restore,
        }
    }

    fn reach(name: &str) -> Action {
        Action::Reach {
            domain: Name::new(name).unwrap(),
            firmware: Firmware::Seabios,
            boot_timeout: None,
            clock: pspd_model::harm::Offset(0),
        }
    }

    fn boots(actions: Vec<Action>) -> Boots {
        let step = |action: Action| Step {
            id: action.id(),
            action,
            after: Vec::new(),
            reason: String::new(),
        };
        Boots::of(&Plan {
            steps: actions.into_iter().map(step).collect(),
            ..Plan::default()
        })
    }

    #[test]
    fn a_guest_boots_after_another_one_was_reached() {
        let mut boots = boots(vec![start("a"), reach("a"), start("b"), reach("b")]);
        assert!(boots.permit(&start("a"), 1));
        boots.started(&start("a"));
        boots.ended(&start("a"), true);
        assert!(!boots.permit(&start("b"), 1));
        assert!(boots.permit(&start("b"), 2));
        assert!(boots.permit(&reach("a"), 1));
        boots.ended(&reach("a"), true);
        assert!(boots.permit(&start("b"), 1));
    }

    #[test]
    fn a_boot_that_nothing_waits_for_holds_no_place() {
        let mut boots = boots(vec![start("a"), start("b"), reach("b")]);
        for (name, well) in [("a", true), ("b", false)] {
            boots.started(&start(name));
            boots.ended(&start(name), well);
            assert!(boots.permit(&start("c"), 1), "{name}");
        }
    }
}
