//! What commands that change a deployment share: the lock, [`apply`], and the summary.

use std::path::Path;

use pspd_model::plan::{DomainStep, Plan, StepId};
use pspd_model::spec::{Connection, Spec};
use tokio_util::sync::CancellationToken;

use super::boot;
use super::context::Context;
use super::exit::{Coded, Exit};
use crate::apply::{Now, Run, apply};
use crate::cancelled::Cancelled;
use crate::event::Events;
use crate::execute::Outcome;
use crate::folder;
use crate::observe::{Extent, Host, observe};
use crate::report::{self, Style};
use crate::state::{Home, Lock, Locked, Patience};
use crate::systemd;

/// A command that changes a deployment, with its options.
pub(super) struct Change {
    pub command: &'static str,
    pub json: bool,
    pub no_wait: bool,
    pub jobs: usize,
    /// What the planner looks at.
    pub extent: Extent,
    /// Whether success removes the deployment's directory with its keys.
    pub forget: bool,
}

/// Runs a command that changes a deployment, from the lock to the summary.
pub(super) async fn change(
    context: &Context,
    spec: Spec,
    change: Change,
    cancel: CancellationToken,
    plan: impl FnOnce(Now<'_>) -> anyhow::Result<Plan>,
) -> anyhow::Result<Exit> {
    let outcome = match outcome(context, &spec, &change, &cancel, plan).await {
        Err(error) if Cancelled::is_cause_of(&error) => {
            report::say("interrupted; nothing was changed\n");
            return Ok(Exit::Interrupted);
        }
        outcome => outcome?,
    };
    let style = Style::chosen(change.json);
    report::summary(&report::Summary::of(&outcome, change.command), &spec, style);
    if style != Style::Json {
        let home = context.paths.deployment(&spec.name);
        print_boots(&home, &spec, &outcome)?;
    }
    Ok(exit(&outcome))
}

/// [`change`] without the summary, for a command whose result is more than its steps.
pub(super) async fn outcome(
    context: &Context,
    spec: &Spec,
    change: &Change,
    cancel: &CancellationToken,
    plan: impl FnOnce(Now<'_>) -> anyhow::Result<Plan>,
) -> anyhow::Result<Outcome> {
    let home = context.paths.deployment(&spec.name);
    reported(Style::chosen(change.json), async |events| {
        let _lock = take_lock(&home.lock_file(), change.no_wait, cancel, events).await?;
        // A killed export left it: none runs while this lock is held.
        folder::remove(&home.flattened())?;
        finish_rewind(context, spec, events).await?;
        let run = Run {
            command: change.command,
            paths: &context.paths,
            spec,
            events,
            cancel,
            jobs: change.jobs,
        };
        let outcome = apply(run, change.extent, plan).await?;
        if change.forget && outcome.is_success() {
            home.remove()?;
            folder::remove(&context.paths.sent(&spec.name))?;
        }
        Ok(outcome)
    })
    .await
}

/// Ends what an interrupted `snapshot restore` began: a part of a snapshot is of no use.
pub(super) async fn finish_rewind(
    context: &Context,
    spec: &Spec,
    events: &Events,
) -> anyhow::Result<()> {
    let home = context.paths.deployment(&spec.name);
    let Some(snapshot) = home.rewinding()? else {
        return Ok(());
    };
    if home.snapshot(&snapshot)?.is_none() {
        return home.record_rewinding(None);
    }
    events.note(format!(
        "a previous restore of the snapshot `{snapshot}` was interrupted; completing it first"
    ));
    let cancel = CancellationToken::new();
    let run = Run {
        command: "snapshot restore",
        paths: &context.paths,
        spec,
        events,
        cancel: &cancel,
        jobs: crate::execute::JOBS,
    };
    let outcome = apply(run, Extent::Existing, |now| {
        Ok(pspd_model::plan::rewind(now.observed, &snapshot, false))
    })
    .await?;
    match outcome.failed.into_iter().next() {
        None => Ok(()),
        Some((_, error)) => Err(error.context(format!(
            "failed to complete the interrupted restore of the snapshot `{snapshot}`"
        ))),
    }
}

/// What applies a plan of `--dry-run`.
pub(super) const WITHOUT: &str = "run without `--dry-run`";

/// Prints what a command would do, and changes nothing.
pub(super) async fn dry_run(
    context: &Context,
    spec: &Spec,
    json: bool,
    plan: impl FnOnce(Now<'_>) -> anyhow::Result<Plan>,
) -> anyhow::Result<Exit> {
    let host = Host::attach(&context.paths, spec).await?;
    let observed = observe(&host, spec, Extent::Existing).await?;
    let plan = plan(Now {
        spec,
        intent: &host.home.intent()?,
        observed: &observed,
    })?;
    report::plan(&plan, WITHOUT, json)?;
    Ok(Exit::Done)
}

/// Plans an `up`, and records the spec, and the file that it came from, for commands without a topology file.
pub(super) fn plan_up(home: &Home, origin: Option<&Path>, now: &Now<'_>) -> anyhow::Result<Plan> {
    let mut plan = pspd_model::plan::up(now.spec, now.intent, now.observed)?;
    let Spec {
        name,
        autostart,
        connection,
        ..
    } = now.spec;
    if *autostart && *connection == Connection::Lab && !systemd::starts(name) {
        let note = "the lab does not start with the host yet; `pspd service install` does that";
        plan.notes.push(note.to_owned());
    }
    home.keep_spec_of_old_volumes(now.observed)?;
    home.record_spec(now.spec)?;
    if let Some(origin) = origin {
        home.record_origin(origin)?;
    }
    Ok(plan)
}

pub(super) fn exit(outcome: &Outcome) -> Exit {
    match outcome {
        outcome if outcome.cancelled => Exit::Interrupted,
        outcome if outcome.is_success() => Exit::Done,
        _ => Exit::Failed,
    }
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
    path: &Path,
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
                hint: None,
            }
            .into(),
            Err(error) => error,
        })
}

/// Prints the boot stages of the domains that this run started.
fn print_boots(home: &Home, spec: &Spec, outcome: &Outcome) -> anyhow::Result<()> {
    let mut boots = boot::recorded(home, spec)?;
    boots.retain(|(name, _)| {
        let ids = [DomainStep::Start, DomainStep::Restart].map(|step| StepId::of(name, step));
        let mut ended = outcome.ended.iter();
        ended.any(|one| ids.contains(&one.step.id))
    });
    let width = crate::terminal::err_width();
    let table = report::boots(boots.iter().map(|(name, boot)| (name, boot)), width);
    report::say(table);
    Ok(())
}
