//! The stages that `up` and `down` share: lock, observe, plan, execute, report.

use std::io::Write as _;
use std::sync::Arc;

use pspd_model::intent::Intent;
use pspd_model::observed::Observed;
use pspd_model::plan::{DomainStep, Plan, StepId};
use pspd_model::spec::Spec;
use tokio_util::sync::CancellationToken;

use super::boot;
use super::context::Context;
use super::exit::{Coded, Exit};
use crate::event::Events;
use crate::execute::{Outcome, World, execute};
use crate::observe::{Host, observe};
use crate::report::{self, Style};
use crate::state::{Home, Journal, Lock, Locked, Patience};

/// A command that changes a deployment, with its options.
pub(super) struct Change {
    pub command: &'static str,
    pub json: bool,
    pub no_wait: bool,
    pub jobs: usize,
    /// Whether success removes the deployment's directory with its keys.
    pub forget: bool,
}

/// What a plan is made from.
pub(super) struct Now<'a> {
    pub spec: &'a Spec,
    pub intent: &'a Intent,
    pub observed: &'a Observed,
}

/// Runs a command that changes a deployment, from the lock to the summary.
pub(super) async fn change(
    context: &Context,
    spec: Spec,
    change: Change,
    cancel: CancellationToken,
    plan: impl FnOnce(Now<'_>) -> anyhow::Result<Plan>,
) -> anyhow::Result<Exit> {
    let home = context.paths.deployment(&spec.name);
    let style = Style::chosen(change.json);
    let outcome = reported(style, async |events| {
        let _lock = take_lock(&home.lock_file(), change.no_wait, &cancel, events).await?;
        home.create()?;
        for step in Journal::under_way(&home.journal_file())? {
            events.note(format!(
                "a previous run was interrupted during `{step}`; continuing from the current state"
            ));
        }
        let host = Host::attach(&context.paths, &spec)?;
        let observed = observe(&host, &spec).await?;
        let plan = plan(Now {
            spec: &spec,
            intent: &home.intent()?,
            observed: &observed,
        })?;
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
    })
    .await?;
    report::summary(&outcome, change.command, &spec, style)?;
    if style != Style::Json {
        print_boots(&home, &spec, &outcome)?;
    }
    Ok(match &outcome {
        outcome if outcome.cancelled => Exit::Interrupted,
        outcome if outcome.is_success() => Exit::Done,
        _ => Exit::Failed,
    })
}

/// Runs `work` and draws its events until it ends.
pub(super) async fn reported<T>(
    style: Style,
    work: impl AsyncFnOnce(&Events) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let (events, receiver) = Events::channel();
    let reporter = tokio::spawn(report::follow(receiver, style));
    let result = work(&events).await;
    drop(events);
    reporter.await??;
    result
}

pub(super) async fn take_lock(
    path: &std::path::Path,
    no_wait: bool,
    cancel: &CancellationToken,
    events: &Events,
) -> anyhow::Result<Lock> {
    let patience = if no_wait {
        Patience::Refuse
    } else {
        Patience::Wait
    };
    let (path, cancel, events) = (path.to_owned(), cancel.clone(), events.clone());
    let taken = tokio::task::spawn_blocking(move || {
        Lock::take(&path, patience, &cancel, |holder| {
            events.note(format!("waiting for another pspd process: {holder}"))
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

/// Prints the boot stages of the domains that this run started.
fn print_boots(home: &Home, spec: &Spec, outcome: &Outcome) -> anyhow::Result<()> {
    let mut boots = boot::recorded(home, spec)?;
    boots.retain(|(name, _)| {
        let id = StepId::of(name, DomainStep::Start);
        outcome.ended.iter().any(|one| one.step.id == id)
    });
    let table = report::boots(boots.iter().map(|(name, boot)| (name, boot)));
    Ok(write!(std::io::stderr(), "{table}")?)
}
