//! `pspd clone`: a second deployment of the same state on this host.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use pspd_model::plan::{Plan, SnapshotOptions, remove_snapshots, save_snapshot};
use pspd_model::spec::{Name, Spec};
use tokio_util::sync::CancellationToken;

use super::completions;
use super::context::{Context, block_on, cancelled_by_signals};
use super::exit::Exit;
use super::run::{exit, finish_rewind, reported, take_lock};
use super::{placed, snapshot};
use crate::apply::{Now, Run, apply};
use crate::cancelled::Cancelled;
use crate::clone;
use crate::execute::{JOBS, Outcome};
use crate::observe::Extent;
use crate::placement::Placement;
use crate::report::{self, Style};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd clone copy\n  pspd clone copy --snapshot clean\n  pspd --deployment copy down --volumes\n\nThe clone's topology.yaml is written to a directory named after it. Its disks depend on\na snapshot of the original, which `pspd snapshot list` shows."
)]
pub(super) struct Args {
    /// The name of the clone
    #[arg(value_name = "NEW", value_parser = snapshot::name)]
    name: Name,
    /// Clone the state of a snapshot [default: the current state]
    #[arg(long, value_name = "NAME", value_parser = snapshot::name, add = completions::snapshots())]
    snapshot: Option<Name>,
    /// The directory for topology.yaml [default: the name of the clone]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Show the resulting deployment; create nothing
    #[arg(long)]
    dry_run: bool,
    /// Create the clone, but do not start it
    #[arg(long)]
    no_up: bool,
    /// Print one JSON event per line on stdout
    #[arg(long)]
    json: bool,
    /// Fail with exit code 5 instead of waiting while another pspd process works on this deployment
    #[arg(long)]
    no_wait: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<Exit> {
    let spec = context.existing_spec()?;
    Context::refuse_part(&spec)?;
    let home = context.paths.deployment(&spec.name);
    // What the arguments alone rule out is refused before anything is waited for.
    let placement = match &args.snapshot {
        Some(name) => placement(context, args, &snapshot::find(&home, name)?.spec)?,
        None => placement(context, args, &spec)?,
    };
    if args.dry_run {
        placed::describe(&placement)?;
        return Ok(Exit::Done);
    }
    block_on(async {
        let cancel = cancelled_by_signals()?;
        let placement = match cloned(context, &spec, args, &cancel).await {
            Err(error) if Cancelled::is_cause_of(&error) => {
                report::say("interrupted; nothing was created\n");
                return Ok(Exit::Interrupted);
            }
            Ok(Cloned::Failed(outcome)) => {
                report::summary(
                    &report::Summary::of(&outcome, "clone"),
                    &spec,
                    Style::chosen(args.json),
                );
                return Ok(exit(&outcome));
            }
            Ok(Cloned::Placed(placement)) => placement,
            Err(error) => return Err(error),
        };
        let mut err = crate::terminal::err();
        for note in &placement.notes {
            writeln!(err, "note: {note}")?;
        }
        writeln!(
            err,
            "cloned into `{}`; its disks need the snapshot `{}` of `{}`",
            placement.folder.display(),
            source(args)?,
            spec.name
        )?;
        if args.no_up {
            return Ok(Exit::Done);
        }
        placed::up(context, &placement, args.json, cancel).await
    })
}

fn placement(context: &Context, args: &Args, spec: &Spec) -> anyhow::Result<Placement> {
    let (name, folder) = (args.name.clone(), args.into.clone());
    let placement = clone::placement(spec, name, folder, &context.paths)?;
    placement.refuse_taken()?;
    Ok(placement)
}

/// The snapshot that is cloned.
fn source(args: &Args) -> anyhow::Result<Name> {
    match &args.snapshot {
        Some(name) => Ok(name.clone()),
        None => Name::new(&format!("clone-{}", args.name)).with_context(|| {
            format!(
                "the name `{}` is too long for a snapshot `clone-{}`; save one and pass `--snapshot`",
                args.name, args.name
            )
        }),
    }
}

/// What became of a clone.
enum Cloned {
    Placed(Placement),
    /// Its state was not saved.
    Failed(Outcome),
}

/// Saves the state unless it is a snapshot's, and places the clone over it.
async fn cloned(
    context: &Context,
    spec: &Spec,
    args: &Args,
    cancel: &CancellationToken,
) -> anyhow::Result<Cloned> {
    let home = context.paths.deployment(&spec.name);
    let clone_home = context.paths.deployment(&args.name);
    let name = source(args)?;
    reported(Style::chosen(args.json), async |events| {
        let _lock = take_lock(&home.lock_file(), args.no_wait, cancel, events).await?;
        finish_rewind(context, spec, events).await?;
        let run = |cancel| Run {
            command: "clone",
            paths: &context.paths,
            spec,
            events,
            cancel,
            jobs: JOBS,
        };
        let own = args.snapshot.is_none();
        if own {
            // A clone that was removed, or that was not completed, may have left it. The user's own is kept.
            let before = home.snapshot(&name)?;
            if before.is_some_and(|before| before.note == note(&args.name)) {
                let plan = |_: Now<'_>| Ok(remove_snapshots([&name]));
                apply(run(cancel), Extent::Existing, plan).await?;
            }
            let saved = apply(run(cancel), Extent::Existing, |now| {
                planned(now, &name, &args.name)
            });
            let saved = saved.await?;
            if !saved.is_success() {
                return Ok(Cloned::Failed(saved));
            }
        }
        let place = async || {
            let snapshot = snapshot::with_disks(&home, &name)?;
            let lock = clone_home.lock_file();
            let _lock = take_lock(&lock, args.no_wait, cancel, events).await?;
            let placement = placement(context, args, &snapshot.spec)?;
            clone::place(&placement, &home, &snapshot)?;
            placed::record(&placement)?;
            anyhow::Ok(placement)
        };
        let placed = place().await;
        if placed.is_err() && own {
            // Also after Ctrl-C.
            let (whole, plan) = (CancellationToken::new(), |_: Now<'_>| {
                Ok(remove_snapshots([&name]))
            });
            apply(run(&whole), Extent::Existing, plan).await?;
        }
        Ok(Cloned::Placed(placed?))
    })
    .await
}

/// Says of a snapshot that it was saved for a clone.
fn note(clone: &Name) -> String {
    format!("the base of the clone `{clone}`")
}

/// Plans the snapshot that a clone is over.
fn planned(now: Now<'_>, name: &Name, clone: &Name) -> anyhow::Result<Plan> {
    let options = SnapshotOptions {
        name: name.clone(),
        note: note(clone),
        disk_only: true,
        tidy: true,
        meets: false,
    };
    Ok(save_snapshot(now.spec, now.intent, now.observed, options)?)
}
