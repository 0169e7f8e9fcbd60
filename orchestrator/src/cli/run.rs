//! What `up` and `down` share: lock, observe, plan, execute, tell.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::exit::{Coded, Exit};
use crate::event::Events;
use crate::execute::{Outcome, World, execute};
use crate::observe::{Host, Observed, observe};
use crate::plan::Plan;
use crate::report::{self, Style};
use crate::spec::Spec;
use crate::state::{Journal, Lock, Locked, Patience};

/// How a command changes the deployment.
pub struct Change {
    pub command: &'static str,
    pub json: bool,
    pub no_wait: bool,
    pub jobs: usize,
    /// Remove the deployment's folder with its keys after all went well.
    pub forget: bool,
}

/// Runs a command that changes a deployment, from the lock to the summary.
pub async fn change(
    context: &Context,
    spec: Spec,
    change: Change,
    cancel: CancellationToken,
    plan: impl FnOnce(&Spec, &Observed) -> anyhow::Result<Plan>,
) -> anyhow::Result<Exit> {
    let home = context.paths.deployment(&spec.name);
    let (events, receiver) = Events::channel();
    let style = if change.json {
        Style::Json
    } else {
        Style::for_stderr()
    };
    let reporter = tokio::spawn(report::follow(receiver, style));

    let told: anyhow::Result<Outcome> = async {
        let patience = if change.no_wait {
            Patience::Refuse
        } else {
            Patience::Wait
        };
        let _lock = take_lock(&home.lock_file(), patience, &cancel, &events).await?;
        home.create()?;
        for step in Journal::under_way(&home.journal_file())? {
            events.note(format!(
                "an earlier run was interrupted during `{step}`; going on from what is there"
            ));
        }
        let host = Host::attach(&context.paths, &spec)?;
        let observed = observe(&host, &spec).await?;
        let plan = plan(&spec, &observed)?;
        if change.command == "up" {
            home.record_spec(&spec)?;
        }
        for note in &plan.notes {
            events.note(note.clone());
        }
        let journal = Journal::start(&home.journal_file(), change.command, plan.steps.len())?;
        let world = Arc::new(World::new(
            host,
            spec.clone(),
            events.clone(),
            cancel.clone(),
        )?);
        let outcome = execute(&plan, world, &journal, change.jobs).await?;
        if change.forget && outcome.is_success() {
            home.remove()?;
        }
        Ok(outcome)
    }
    .await;

    drop(events);
    reporter.await??;
    let outcome = told?;
    report::summary(&outcome, change.command, &spec, style)?;
    Ok(match &outcome {
        outcome if outcome.cancelled => Exit::Interrupted,
        outcome if outcome.is_success() => Exit::Done,
        _ => Exit::Failed,
    })
}

async fn take_lock(
    path: &std::path::Path,
    patience: Patience,
    cancel: &CancellationToken,
    events: &Events,
) -> anyhow::Result<Lock> {
    let (path, cancel, events) = (path.to_owned(), cancel.clone(), events.clone());
    let taken = tokio::task::spawn_blocking(move || {
        Lock::take(&path, patience, &cancel, |holder| {
            events.note(format!("waiting for another pspd to end: {holder}"))
        })
    });
    taken
        .await?
        .map_err(|error| match error.downcast::<Locked>() {
            Ok(locked) => Coded {
                exit: Exit::Locked,
                message: locked.to_string(),
            }
            .into(),
            Err(error) => error,
        })
}
