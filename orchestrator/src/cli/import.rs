//! `pspd import`: unpacks an exported deployment on this host, then brings it up like any other.

use std::io::{IsTerminal as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::ensure;
use pspd_model::hint::Hinted;
use pspd_model::plan::StepId;
use pspd_model::spec::Name;
use tokio_util::sync::CancellationToken;

use super::context::{Context, block_on, cancelled_by_signals};
use super::exit::Exit;
use super::placed;
use super::run::{reported, take_lock};
use crate::apply::{self, Run};
use crate::archive::{self, Opened};
use crate::cancelled::Cancelled;
use crate::event::Events;
use crate::execute::{JOBS, Outcome};
use crate::observe;
use crate::placement::{Placement, Taken, Wanted};
use crate::report::Style;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd import vm-export.tar.xz\n  pspd import vm-export.tar.xz --name copy\n  pspd import vm-export.tar.xz --dry-run\n\nThe deployment's topology.yaml and its files are written to a directory named after the deployment. Run `pspd`\ncommands in that directory, or pass `--deployment NAME`."
)]
pub(super) struct Args {
    /// The archive
    archive: PathBuf,
    /// The name of the new deployment [default: the name in the archive]
    #[arg(long)]
    name: Option<String>,
    /// Where domains run: `lab`, or a libvirt URI of this host
    #[arg(long, default_value = "lab", value_name = "URI")]
    connection: String,
    /// The directory for topology.yaml and its files [default: the name of the deployment]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Check the whole archive and show the resulting deployment; create nothing
    #[arg(long)]
    dry_run: bool,
    /// Unpack the deployment, but do not start it
    #[arg(long)]
    no_up: bool,
    /// Do not ask before importing ports that other machines can reach, or keys
    #[arg(long)]
    yes: bool,
    /// Print one JSON event per line on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    block_on(async {
        let cancel = cancelled_by_signals()?;
        let placement = match import(context, &args, &cancel).await {
            Err(error) if Cancelled::is_cause_of(&error) => {
                writeln!(crate::terminal::err(), "interrupted; nothing was created")?;
                return Ok(Exit::Interrupted);
            }
            result => result?,
        };
        let mut err = crate::terminal::err();
        for note in &placement.notes {
            writeln!(err, "note: {note}")?;
        }
        if args.dry_run {
            placed::describe(&placement)?;
            return Ok(Exit::Done);
        }
        writeln!(err, "imported into `{}`", placement.folder.display())?;
        if args.no_up {
            return Ok(Exit::Done);
        }
        placed::up(context, &placement, args.json, cancel).await
    })
}

/// Reads the archive, asks about what reaches further than this host, and places it.
async fn import(
    context: &Context,
    args: &Args,
    cancel: &CancellationToken,
) -> anyhow::Result<Arc<Placement>> {
    let style = Style::chosen(args.json);
    // An open archive reports its progress, so it does not outlive the reporter: it is opened again after the question.
    let first = reported(style, async |events| {
        let Read { opened, placement } = read(context, args, events, cancel).await?;
        let warnings = archive::warnings(&placement, &opened.manifest);
        if args.dry_run {
            for warning in &warnings {
                events.note(warning.clone());
            }
            let scope = events.scope(StepId::Place.to_string(), None);
            scope.stage("checking");
            tokio::task::spawn_blocking(move || opened.verify()).await??;
        }
        Ok((placement, warnings))
    });
    let (placement, warnings) = first.await?;
    if args.dry_run {
        return Ok(placement);
    }
    confirm(&warnings, args, cancel).await?;
    reported(style, async |events| {
        let read = read(context, args, events, cancel).await?;
        let placement = Arc::clone(&read.placement);
        ensure!(
            archive::warnings(&placement, &read.opened.manifest) == warnings,
            "the archive changed; nothing was imported"
        );
        place(context, args, read, events, cancel).await?;
        Ok(placement)
    })
    .await
}

/// An archive whose manifest was checked, and what becomes of it on this host.
struct Read {
    opened: Opened,
    placement: Arc<Placement>,
}

/// Opens the archive and checks its manifest.
async fn read(
    context: &Context,
    args: &Args,
    events: &Events,
    cancel: &CancellationToken,
) -> anyhow::Result<Read> {
    let title = format!("read `{}`", args.archive.display());
    let scope = events.begin(StepId::Place.to_string(), title);
    let wanted = Wanted {
        name: args.name.as_deref().map(Name::new).transpose()?,
        connection: args.connection.clone(),
        folder: args.into.clone(),
    };
    let opened = {
        let (path, cancel) = (args.archive.clone(), cancel.clone());
        tokio::task::spawn_blocking(move || Opened::open(&path, &scope, &cancel)).await??
    };
    let networks = match wanted.connection.as_str() {
        // A lab has a network stack of its own.
        "lab" => Vec::new(),
        _ => observe::routed_networks()?,
    };
    let taken = Taken {
        networks,
        listening: |address| TcpListener::bind(address).is_err(),
    };
    let placement = archive::placement(&opened.manifest, wanted, &taken, &context.paths)?;
    placement.refuse_taken()?;
    let placement = Arc::new(placement);
    Ok(Read { opened, placement })
}

/// Places what was read while holding the deployment's lock.
async fn place(
    context: &Context,
    args: &Args,
    read: Read,
    events: &Events,
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    let Read { opened, placement } = read;
    let _lock = take_lock(&placement.home.lock_file(), false, cancel, events).await?;
    placement.refuse_taken()?;
    let plan = pspd_model::plan::import(args.archive.clone(), placement.folder.clone());
    let run = Run {
        command: "import",
        paths: &context.paths,
        spec: &placement.spec,
        events,
        cancel,
        jobs: JOBS,
    };
    let outcome = apply::import(run, &plan, opened, placement.clone()).await?;
    succeeded(outcome)?;
    placed::record(&placement)
}

/// Asks whether to import what `warnings` say. Without a terminal to ask on, the answer must be an option.
async fn confirm(
    warnings: &[String],
    args: &Args,
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    let refused = || Hinted::new("nothing was imported", "Pass --yes to import it");
    if warnings.is_empty() {
        return Ok(());
    }
    let mut err = crate::terminal::err();
    for warning in warnings {
        writeln!(err, "warning: {warning}")?;
    }
    if args.yes {
        return Ok(());
    }
    ensure!(!args.json && std::io::stdin().is_terminal(), refused());
    write!(err, "import it? [y/N] ")?;
    err.flush()?;
    let (answer, answered) = tokio::sync::oneshot::channel();
    // A thread of its own: the process does not wait for it after Ctrl-C.
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line).map(|_| line);
        // After Ctrl-C, the answer is not awaited.
        let _ = answer.send(read);
    });
    let line = tokio::select! {
        line = answered => line??,
        () = cancel.cancelled() => return Err(Cancelled::during("waiting for an answer").into()),
    };
    ensure!(is_yes(&line), refused());
    Ok(())
}

/// Whether a line says yes. The end of the input, an empty line and anything else say no.
fn is_yes(line: &str) -> bool {
    let answer = line.trim().to_ascii_lowercase();
    ["y", "yes"].contains(&answer.as_str())
}

/// The error of an import that placed nothing, or whose cancellation left something.
fn succeeded(outcome: Outcome) -> anyhow::Result<()> {
    let failed = outcome.failed.into_iter();
    let left = outcome.undone.into_iter().filter_map(|(step, error)| {
        let context = format!("failed to undo: {}", step.title());
        Some(error?.context(context))
    });
    match failed.map(|(_, error)| error).chain(left).next() {
        Some(error) => Err(error),
        None if outcome.cancelled => Err(Cancelled::during("unpacking the archive").into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for yes in ["y\n", "Y\n", "yes\n", "YES", " y \r\n"] {
            assert!(is_yes(yes), "{yes:?}");
        }
        for no in ["", "\n", "n\n", "no\n", "yy\n", "y n\n", "yes, import it\n"] {
            assert!(!is_yes(no), "{no:?}");
        }
    }
}
