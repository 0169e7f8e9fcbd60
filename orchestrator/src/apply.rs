//! The stages that every change of a deployment goes through: observe, plan, execute.
//!
//! Owns their order and the journal's beginning. Takes no lock, which the caller holds, and prints nothing.

use std::sync::Arc;

use pspd_model::intent::Intent;
use pspd_model::observed::Observed;
use pspd_model::plan::Plan;
use pspd_model::spec::Spec;
use tokio_util::sync::CancellationToken;

use crate::event::Events;
use crate::execute::{Outcome, World, execute};
use crate::observe::{Host, observe};
use crate::state::{Journal, Paths};

/// A change of a deployment.
pub struct Run<'a> {
    /// What the journal calls it.
    pub command: &'static str,
    pub paths: &'a Paths,
    pub spec: &'a Spec,
    pub events: &'a Events,
    pub cancel: &'a CancellationToken,
    /// The maximum number of steps that run in parallel.
    pub jobs: usize,
}

/// What a plan is made from.
pub struct Now<'a> {
    pub spec: &'a Spec,
    pub intent: &'a Intent,
    pub observed: &'a Observed,
}

/// Executes the plan that is made from the current state.
pub async fn apply(
    run: Run<'_>,
    plan: impl FnOnce(Now<'_>) -> anyhow::Result<Plan>,
) -> anyhow::Result<Outcome> {
    let home = run.paths.deployment(&run.spec.name);
    home.create()?;
    for step in Journal::under_way(&home.journal_file())? {
        run.events.note(format!(
            "a previous run was interrupted during `{step}`; continuing from the current state"
        ));
    }
    let host = Host::attach(run.paths, run.spec)?;
    let observed = observe(&host, run.spec).await?;
    let plan = plan(Now {
        spec: run.spec,
        intent: &home.intent()?,
        observed: &observed,
    })?;
    for note in &plan.notes {
        run.events.note(note.clone());
    }
    let (events, cancel) = (run.events.clone(), run.cancel.clone());
    let world = Arc::new(World::new(host, run.spec.clone(), events, cancel)?);
    let journal = Journal::start(&home.journal_file(), run.command, plan.steps.len())?;
    execute(&plan, world, &journal, run.jobs).await
}
