//! `pspd export`: packs a deployment, running or stopped, into one file.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use pspd_model::plan::{Existing, ExportOptions, StepId};
use pspd_model::spec::{Name, Size};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::completions;
use super::context::{Context, block_on, cancelled_by_signals};
use super::exit::Exit;
use super::run::{Change, exit, outcome, reported};
use super::snapshot;
use crate::apply::Now;
use crate::archive::{Opened, Packed, Target};
use crate::cancelled::Cancelled;
use crate::event::seconds;
use crate::execute::Outcome;
use crate::observe::Extent;
use crate::report::{self, Style};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd export vm-export.tar.xz         smallest\n  pspd export vm-export.tar.zst        fastest\n  pspd export --verify vm-export.tar.xz\n\n`pspd import` reads the archive. It also works with only tar and virsh: see the README in it."
)]
pub(super) struct Args {
    /// The archive; the extension selects the format: .tar.xz, .tar.zst, .tar.gz or .tar
    archive: PathBuf,
    /// Check an existing archive; write nothing
    #[arg(long, conflicts_with_all = ["flatten", "clean", "with_secrets", "force"])]
    verify: bool,
    /// Overwrite an existing file
    #[arg(long)]
    force: bool,
    /// Pack a self-contained disk for each domain instead of an overlay on a shared base image
    #[arg(long)]
    flatten: bool,
    /// Delete caches and old logs in running guests before packing
    #[arg(long)]
    clean: bool,
    /// Pack a snapshot, and leave the running system alone
    #[arg(long, value_name = "NAME", conflicts_with_all = ["clean", "verify"], value_parser = snapshot::name, add = completions::snapshots())]
    snapshot: Option<Name>,
    /// Include private keys: those of pspd, and those of the services on the guests' disks
    #[arg(long)]
    with_secrets: bool,
    /// Print one JSON event per line on stdout
    #[arg(long)]
    json: bool,
    /// Fail with exit code 5 instead of waiting while another pspd process works on this deployment
    #[arg(long)]
    no_wait: bool,
}

const NOTHING: &str = "interrupted; no archive was written";

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    block_on(async {
        let cancel = cancelled_by_signals()?;
        let done = if args.verify {
            verify(&args, &cancel).await
        } else {
            export(context, &args, &cancel).await
        };
        match done {
            Err(error) if Cancelled::is_cause_of(&error) => {
                writeln!(crate::terminal::err(), "{NOTHING}")?;
                Ok(Exit::Interrupted)
            }
            done => done,
        }
    })
}

async fn verify(args: &Args, cancel: &CancellationToken) -> anyhow::Result<Exit> {
    reported(Style::chosen(args.json), async |events| {
        let (path, cancel) = (args.archive.clone(), cancel.clone());
        let title = format!("check `{}`", path.display());
        let scope = events.begin(StepId::Pack.to_string(), title);
        tokio::task::spawn_blocking(move || Opened::open(&path, &scope, &cancel)?.verify()).await?
    })
    .await?;
    writeln!(crate::terminal::out(), "`{}`: OK", args.archive.display())?;
    Ok(Exit::Done)
}

async fn export(
    context: &Context,
    args: &Args,
    cancel: &CancellationToken,
) -> anyhow::Result<Exit> {
    let options = ExportOptions {
        archive: args.archive.clone(),
        existing: if args.force {
            Existing::Replace
        } else {
            Existing::Refuse
        },
        clean: args.clean,
        flatten: args.flatten,
        with_secrets: args.with_secrets,
        snapshot: args.snapshot.clone(),
    };
    // What the arguments alone rule out is refused before anything is waited for.
    Target::new(&options.archive, options.existing)?;
    let mut spec = context.deployed_spec()?;
    Context::refuse_part(&spec)?;
    ensure!(
        context.paths.deployment(&spec.name).exists(),
        "deployment `{}` does not exist on this host; nothing to export",
        spec.name
    );
    if let Some(name) = &args.snapshot {
        spec = snapshot::find(&context.paths.deployment(&spec.name), name)?.spec;
    }
    let change = Change {
        extent: Extent::Complete,
        command: "export",
        json: args.json,
        no_wait: args.no_wait,
        jobs: crate::execute::JOBS,
        forget: false,
    };
    let began = Instant::now();
    let plan = |now: Now<'_>| {
        let plan = pspd_model::plan::export(now.spec, now.intent, now.observed, options)?;
        Ok(plan)
    };
    let outcome = outcome(context, &spec, &change, cancel, plan).await?;
    match outcome.packed {
        Some(packed) if outcome.is_success() => {
            print_result(args, packed, outcome.paused_for(), began.elapsed())?;
        }
        packed => {
            report::summary(
                &report::Summary::of(&outcome, "export"),
                &spec,
                Style::chosen(args.json),
            );
            print_rest(args, &outcome, packed)?;
        }
    }
    Ok(exit(&outcome))
}

fn print_result(
    args: &Args,
    packed: Packed,
    paused: Option<Duration>,
    elapsed: Duration,
) -> anyhow::Result<()> {
    let Packed { content, archive } = packed;
    let mut out = crate::terminal::out();
    if args.json {
        let summary = json!({
            "event": "summary", "command": "export", "success": true, "archive": archive, "content": content,
            "seconds": seconds(elapsed), "stood_still": paused.map(seconds),
        });
        return Ok(writeln!(out, "{summary}")?);
    }
    writeln!(
        out,
        "wrote `{}`: {} of {} in {:.1} s",
        args.archive.display(),
        Size(archive),
        Size(content),
        elapsed.as_secs_f64()
    )?;
    if let Some(paused) = paused {
        writeln!(
            out,
            "running domains were paused for {:.2} s",
            paused.as_secs_f64()
        )?;
    }
    Ok(())
}

/// Says what an export that was not successful leaves.
fn print_rest(args: &Args, outcome: &Outcome, packed: Option<Packed>) -> anyhow::Result<()> {
    let mut err = crate::terminal::err();
    match packed {
        Some(_) => writeln!(
            err,
            "archive `{}` is complete{}",
            args.archive.display(),
            if outcome.cancelled {
                ""
            } else {
                ", but some domains could not be restored"
            }
        )?,
        None if outcome.cancelled => writeln!(err, "{NOTHING}")?,
        None => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pspd_model::plan::{Action, Step};
    use pspd_model::spec::Name;

    use super::*;
    use crate::execute::Ended;

    #[test]
    fn the_pause_is_from_the_first_pause_to_the_last_resume() {
        let domain = |name: &str| Name::new(name).unwrap();
        let ended = |action: Action, started, elapsed| Ended {
            step: Step {
                id: action.id(),
                action,
                after: Vec::new(),
                reason: String::new(),
            },
            started: Duration::from_millis(started),
            elapsed: Duration::from_millis(elapsed),
        };
        let mut outcome = Outcome::default();
        assert_eq!(outcome.paused_for(), None);
        for (name, pause, resume) in [("a", 110, 300), ("b", 100, 280)] {
            let pauses = Action::Pause {
                domain: domain(name),
            };
            let resumes = Action::Resume {
                domain: domain(name),
            };
            let both = [ended(pauses, pause, 20), ended(resumes, resume, 50)];
            outcome.ended.extend(both);
        }
        assert_eq!(outcome.paused_for(), Some(Duration::from_millis(250)));
    }
}
