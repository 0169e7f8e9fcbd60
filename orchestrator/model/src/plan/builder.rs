//! Puts a plan together, and keeps its edges honest.

use std::collections::BTreeSet;

use super::{Action, DomainStep, Plan, Step, StepId, Undo};
use crate::spec::Name;

/// A plan that grows. Every edge points to a step that was added before, so the steps are in an order that respects
/// their edges.
#[derive(Debug, Default)]
pub(super) struct PlanBuilder {
    plan: Plan,
    planned: BTreeSet<StepId>,
}

impl PlanBuilder {
    /// Adds a step, whose edges are then given to what this returns.
    pub(super) fn add(&mut self, action: Action, reason: impl Into<String>) -> Edges<'_> {
        let id = action.id();
        let fresh = self.planned.insert(id.clone());
        debug_assert!(fresh, "the step `{id}` is planned twice");
        self.plan.steps.push(Step {
            id,
            action,
            after: Vec::new(),
            reason: reason.into(),
        });
        Edges { builder: self }
    }

    pub(super) fn note(&mut self, note: String) {
        self.plan.notes.push(note);
    }

    pub(super) fn has(&self, id: &StepId) -> bool {
        self.planned.contains(id)
    }

    pub(super) fn has_domain(&self, name: &Name, step: DomainStep) -> bool {
        self.has(&StepId::of(name, step))
    }

    /// The ids of all steps so far.
    pub(super) fn ids(&self) -> Vec<StepId> {
        self.plan.steps.iter().map(|step| step.id.clone()).collect()
    }

    pub(super) fn undo(&mut self, undo: Undo) {
        self.plan.undo = undo;
    }

    pub(super) fn finish(self) -> Plan {
        self.plan
    }
}

/// The edges of the step that was added last.
pub(super) struct Edges<'a> {
    builder: &'a mut PlanBuilder,
}

impl Edges<'_> {
    /// The step waits for this one, which is planned: anything else is a bug of the planner.
    pub(super) fn after(self, id: StepId) -> Self {
        assert!(
            self.builder.planned.contains(&id),
            "an edge leads to `{id}`, which is not planned"
        );
        self.push(id)
    }

    /// [`Edges::after`] for several steps.
    pub(super) fn after_all(self, ids: impl IntoIterator<Item = StepId>) -> Self {
        ids.into_iter().fold(self, Edges::after)
    }

    /// The step waits for this one where it is planned. Where it is not, its work is done.
    pub(super) fn if_planned(self, id: StepId) -> Self {
        if self.builder.planned.contains(&id) {
            self.push(id)
        } else {
            self
        }
    }

    /// [`Edges::if_planned`] for several steps.
    pub(super) fn if_any_planned(self, ids: impl IntoIterator<Item = StepId>) -> Self {
        ids.into_iter().fold(self, Edges::if_planned)
    }

    fn push(self, id: StepId) -> Self {
        if let Some(step) = self.builder.plan.steps.last_mut() {
            step.after.push(id);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_optional_edge_to_a_step_that_is_not_planned_is_left_out() {
        let mut builder = PlanBuilder::default();
        builder
            .add(Action::StartLab, "")
            .if_planned(StepId::StopLab);
        assert_eq!(builder.finish().steps[0].after, []);
    }

    #[test]
    #[should_panic(expected = "an edge leads to `lab/stop`, which is not planned")]
    fn a_required_edge_to_a_step_that_is_not_planned_is_a_bug() {
        let mut builder = PlanBuilder::default();
        builder.add(Action::StartLab, "").after(StepId::StopLab);
    }
}
