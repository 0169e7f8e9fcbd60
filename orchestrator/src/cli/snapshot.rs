//! `pspd snapshot`: saves the whole deployment, and rewinds it.

mod check;
mod diff;
mod list;

use std::collections::BTreeSet;
use std::io::Write as _;

use anyhow::{Context as _, bail};
use pspd_model::hint::{Hint as _, Hinted};
use pspd_model::observed::Observed;
use pspd_model::plan::{Plan, PlanError, SnapshotOptions, save_nothing};
use pspd_model::spec::{Name, Spec};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::completions;
use super::context::{Context, block_on, cancelled_by_signals};
use super::exit::Exit;
use super::options::Options;
use super::run::{Change, change, dry_run, exit, finish_rewind, outcome, reported, take_lock};
use crate::accel;
use crate::apply::{Now, Run, apply};
use crate::cancelled::Cancelled;
use crate::event::Events;
use crate::execute::Outcome;
use crate::observe::Extent;
use crate::report::{self, Style};
use crate::state::{Home, Snapshot};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd snapshot save clean --note \"after the first up\"\n  pspd snapshot restore clean\n  pspd snapshot list"
)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: SnapshotCommand,
}

#[derive(clap::Subcommand)]
pub(super) enum SnapshotCommand {
    /// Save memory and disks of all domains at one instant; they keep running
    #[command(after_help = "Example:\n  pspd snapshot save clean --note \"after the first up\"")]
    Save(SaveArgs),
    /// Show all snapshots as a tree
    #[command(after_help = "Example:\n  pspd snapshot list")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a snapshot has
    #[command(after_help = "Example:\n  pspd snapshot show clean")]
    Show {
        /// The snapshot
        #[arg(value_name = "NAME", value_parser = name, add = completions::snapshots())]
        name: Name,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Go back to a snapshot, after saving the current state as another one
    #[command(
        after_help = "Examples:\n  pspd snapshot restore clean\n  pspd snapshot restore clean --discard"
    )]
    Restore(RestoreArgs),
    /// Remove snapshots; layers that other snapshots need are kept
    #[command(after_help = "Example:\n  pspd snapshot rm clean before-1")]
    Rm {
        /// The snapshots
        #[arg(value_name = "NAME", required = true, value_parser = name, add = completions::snapshots())]
        names: Vec<Name>,
        #[command(flatten)]
        options: Options,
    },
    /// Show how the topologies and the releases of two snapshots differ
    #[command(
        after_help = "Examples:\n  pspd snapshot diff clean\n  pspd snapshot diff clean changed"
    )]
    Diff {
        /// A snapshot
        #[arg(value_name = "A", value_parser = name, add = completions::snapshots())]
        from: Name,
        /// Another snapshot; without one, what is deployed now
        #[arg(value_name = "B", value_parser = name, add = completions::snapshots())]
        to: Option<Name>,
    },
}

#[derive(clap::Args)]
pub(super) struct SaveArgs {
    /// Lowercase letters, digits and `-`
    #[arg(value_name = "NAME", value_parser = name)]
    pub(super) name: Name,
    /// What to remember about it
    #[arg(long, default_value = "", hide_default_value = true, value_parser = note)]
    note: String,
    /// Save only the disks, as after a power cut
    #[arg(long)]
    disk_only: bool,
    #[command(flatten)]
    pub(super) options: Options,
}

#[derive(clap::Args)]
pub(super) struct RestoreArgs {
    /// The snapshot
    #[arg(value_name = "NAME", value_parser = name, add = completions::snapshots())]
    pub(super) name: Name,
    /// Discard the current state instead of saving it first
    #[arg(long)]
    pub(super) discard: bool,
    /// Save the current state under this name, together with the other hosts
    #[arg(long, value_name = "NAME", hide = true, value_parser = name, conflicts_with = "discard")]
    before: Option<Name>,
    /// Print the snapshot, if it can be restored, and restore nothing
    #[arg(long, hide = true)]
    check: bool,
    /// Restore only the disks, and boot from them
    #[arg(long)]
    pub(super) disk_only: bool,
    /// Print one JSON event per line on stdout
    #[arg(long)]
    pub(super) json: bool,
    /// Fail with exit code 5 instead of waiting while another pspd process works on this deployment
    #[arg(long)]
    no_wait: bool,
}

pub(super) fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}

fn note(text: &str) -> Result<String, String> {
    match text.chars().any(char::is_control) {
        true => Err("a note is one line of text".to_owned()),
        false => Ok(text.to_owned()),
    }
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    match args.command {
        SnapshotCommand::Save(args) => save(context, args),
        SnapshotCommand::Restore(args) => restore(context, &args),
        SnapshotCommand::Rm { names, options } => remove(context, &names, options),
        SnapshotCommand::List { json } => {
            let spec = context.existing_spec()?;
            list::list(&context.paths.deployment(&spec.name), json)
        }
        SnapshotCommand::Show { name, json } => {
            let spec = context.existing_spec()?;
            let home = context.paths.deployment(&spec.name);
            list::show(&home, &name, &find(&home, &name)?, json)
        }
        SnapshotCommand::Diff { from, to } => {
            let spec = context.existing_spec()?;
            diff::run(
                &context.paths.deployment(&spec.name),
                &spec,
                &from,
                to.as_ref(),
            )
        }
    }
}

/// A snapshot that must exist.
pub(super) fn find(home: &Home, name: &Name) -> anyhow::Result<Snapshot> {
    if let Some(snapshot) = home.snapshot(name)? {
        return Ok(snapshot);
    }
    let known = home.snapshot_names()?;
    if known.is_empty() {
        bail!(Hinted::new(
            "no snapshots",
            "Run `pspd snapshot save NAME` to save one"
        ));
    }
    let known: Vec<&str> = known.iter().map(Name::as_str).collect();
    bail!(
        "the snapshot `{name}` does not exist. Snapshots: {}",
        known.join(", ")
    )
}

fn save(context: &Context, args: SaveArgs) -> anyhow::Result<Exit> {
    let spec = context.existing_spec()?;
    let options = SnapshotOptions {
        name: args.name.clone(),
        note: args.note,
        disk_only: args.disk_only,
        tidy: false,
        meets: context.is_one_of_several(),
    };
    block_on(async {
        let plan = |now: Now<'_>| Ok(planned(now, options)?);
        if args.options.dry_run {
            return dry_run(context, &spec, args.options.json, plan).await;
        }
        let cancel = cancelled_by_signals()?;
        let change = Change {
            command: "snapshot save",
            json: args.options.json,
            no_wait: args.options.no_wait,
            jobs: crate::execute::JOBS,
            extent: Extent::Existing,
            forget: false,
        };
        let saved = match outcome(context, &spec, &change, &cancel, plan).await {
            Err(error) if Cancelled::is_cause_of(&error) => {
                report::say("interrupted; nothing was changed\n");
                return Ok(Exit::Interrupted);
            }
            saved => saved?,
        };
        report::summary(
            &report::Summary::of(&saved, change.command),
            &spec,
            Style::chosen(change.json),
        );
        if saved.is_success() && !change.json {
            let still = saved.paused_for().map_or_else(String::new, |time| {
                format!("; the guests were paused for {:.1} s", time.as_secs_f64())
            });
            report::say(format!("saved the snapshot `{}`{still}\n", args.name));
        } else if !change.json {
            report::say("no snapshot was saved; the domains are unchanged\n");
        }
        Ok(exit(&saved))
    })
}

fn planned(now: Now<'_>, options: SnapshotOptions) -> Result<Plan, PlanError> {
    pspd_model::plan::save_snapshot(now.spec, now.intent, now.observed, options)
}

fn remove(context: &Context, names: &[Name], options: Options) -> anyhow::Result<Exit> {
    let spec = context.existing_spec()?;
    let home = context.paths.deployment(&spec.name);
    let names: BTreeSet<&Name> = names.iter().collect();
    for name in &names {
        // An unknown name is a reason to do nothing.
        find(&home, name)?;
    }
    block_on(async {
        let plan = |_: Now<'_>| Ok(pspd_model::plan::remove_snapshots(names));
        if options.dry_run {
            return dry_run(context, &spec, options.json, plan).await;
        }
        let change_to = Change {
            command: "snapshot rm",
            json: options.json,
            no_wait: options.no_wait,
            jobs: crate::execute::JOBS,
            extent: Extent::Existing,
            forget: false,
        };
        change(
            context,
            spec.clone(),
            change_to,
            cancelled_by_signals()?,
            plan,
        )
        .await
    })
}

fn restore(context: &Context, args: &RestoreArgs) -> anyhow::Result<Exit> {
    let spec = context.existing_spec()?;
    if args.check {
        let home = context.paths.deployment(&spec.name);
        let checked = Checked {
            spec: restorable(&home, &args.name, args.disk_only)?.spec,
            names: home.snapshot_names()?,
        };
        writeln!(
            crate::terminal::out(),
            "{}",
            serde_json::to_string(&checked)?
        )?;
        return Ok(Exit::Done);
    }
    block_on(async {
        let cancel = cancelled_by_signals()?;
        let restored = match rewound(context, &spec, args, &cancel).await {
            Err(error) if Cancelled::is_cause_of(&error) => {
                report::say("interrupted; nothing was changed\n");
                return Ok(Exit::Interrupted);
            }
            restored => restored?,
        };
        let Restored {
            spec,
            outcome,
            before,
        } = restored;
        report::summary(
            &report::Summary::of(&outcome, "snapshot restore"),
            &spec,
            Style::chosen(args.json),
        );
        if let Some(before) = before.filter(|_| !args.json) {
            report::say(format!(
                "saved the previous state as the snapshot `{before}`. Run `pspd snapshot restore {before}` to return to it\n"
            ));
        }
        Ok(exit(&outcome))
    })
}

/// Returns to a snapshot, and discards the current state.
pub(super) async fn rewind(
    context: &Context,
    spec: &Spec,
    name: Name,
    cancel: &CancellationToken,
) -> anyhow::Result<Outcome> {
    let args = RestoreArgs {
        name,
        discard: true,
        before: None,
        check: false,
        disk_only: false,
        json: false,
        no_wait: false,
    };
    Ok(rewound(context, spec, &args, cancel).await?.outcome)
}

/// What one of several hosts says of a snapshot that it can restore.
#[derive(Serialize, Deserialize)]
pub(super) struct Checked {
    pub(super) spec: Spec,
    /// The names of all its snapshots.
    pub(super) names: BTreeSet<Name>,
}

/// What became of a restore.
struct Restored {
    /// The snapshot's.
    spec: Spec,
    /// Of the last part that ran.
    outcome: Outcome,
    /// The snapshot of the state before.
    before: Option<Name>,
}

/// Saves the current state, puts the snapshot in place, and starts what it has.
async fn rewound(
    context: &Context,
    spec: &Spec,
    args: &RestoreArgs,
    cancel: &CancellationToken,
) -> anyhow::Result<Restored> {
    let home = context.paths.deployment(&spec.name);
    reported(Style::chosen(args.json), async |events| {
        let _lock = take_lock(&home.lock_file(), args.no_wait, cancel, events).await?;
        finish_rewind(context, spec, events).await?;
        let snapshot = {
            let (home, name, disk_only) = (home.clone(), args.name.clone(), args.disk_only);
            let checked = move || restorable(&home, &name, disk_only);
            tokio::task::spawn_blocking(checked).await??
        };
        let saved = match args.discard {
            true => Before::Nothing,
            false => save_before(context, spec, args, events, cancel).await?,
        };
        let before = match saved {
            Before::Saved(name) => Some(name),
            Before::Nothing => None,
            Before::Failed(outcome) => {
                return Ok(Restored {
                    spec: spec.clone(),
                    outcome,
                    before: None,
                });
            }
        };
        // What it began, it ends: a part of a snapshot would be of no use.
        let whole = CancellationToken::new();
        let run = part(context, spec, events, &whole);
        let rewound = apply(run, Extent::Existing, |now| {
            Ok(pspd_model::plan::rewind(
                now.observed,
                &args.name,
                args.disk_only,
            ))
        })
        .await?;
        let spec = snapshot.spec;
        if !rewound.is_success() {
            return Ok(Restored {
                spec,
                outcome: rewound,
                before,
            });
        }
        let run = part(context, &spec, events, cancel);
        let started = apply(run, Extent::Complete, |now| {
            let observed = with_releases_kept(now.observed);
            Ok(pspd_model::plan::drift(now.spec, now.intent, &observed)?)
        });
        let outcome = match started.await {
            // The snapshot is restored anyway.
            Err(error) if Cancelled::is_cause_of(&error) => Outcome {
                cancelled: true,
                ..Outcome::default()
            },
            outcome => outcome?,
        };
        Ok(Restored {
            spec,
            outcome,
            before,
        })
    })
    .await
}

/// What became of the state before a restore.
enum Before {
    Saved(Name),
    /// There was nothing to save, or it was discarded.
    Nothing,
    Failed(Outcome),
}

/// Saves the current state under a free name.
async fn save_before(
    context: &Context,
    spec: &Spec,
    restored: &RestoreArgs,
    events: &Events,
    cancel: &CancellationToken,
) -> anyhow::Result<Before> {
    let home = context.paths.deployment(&spec.name);
    let with_others = restored.before.is_some();
    let name = match &restored.before {
        Some(name) => name.clone(),
        None => free_name(&home.snapshot_names()?),
    };
    let options = SnapshotOptions {
        name: name.clone(),
        note: format!("before the restore of `{}`", restored.name),
        disk_only: false,
        tidy: false,
        meets: with_others,
    };
    let run = part(context, spec, events, cancel);
    let mut nothing = false;
    let saved = apply(run, Extent::Existing, |now| match planned(now, options) {
        Err(PlanError::NotUp { .. }) => {
            nothing = true;
            Ok(match with_others {
                true => save_nothing(),
                false => Plan::default(),
            })
        }
        plan => Ok(plan?),
    })
    .await
    .context("failed to save the current state first")
    .hint("Pass `--discard` to discard it")?;
    Ok(match saved.is_success() {
        true if nothing => Before::Nothing,
        true => Before::Saved(name),
        false => Before::Failed(saved),
    })
}

fn part<'a>(
    context: &'a Context,
    spec: &'a Spec,
    events: &'a Events,
    cancel: &'a CancellationToken,
) -> Run<'a> {
    Run {
        command: "snapshot restore",
        paths: &context.paths,
        spec,
        events,
        cancel,
        jobs: crate::execute::JOBS,
    }
}

/// A snapshot whose disks are there.
pub(super) fn with_disks(home: &Home, name: &Name) -> anyhow::Result<Snapshot> {
    let snapshot = find(home, name)?;
    check::check(home, name, &snapshot, None)?;
    Ok(snapshot)
}

/// A snapshot that can be restored here.
fn restorable(home: &Home, name: &Name, disk_only: bool) -> anyhow::Result<Snapshot> {
    let snapshot = find(home, name)?;
    let hypervisor = accel::hypervisor()?;
    let hypervisor = (!disk_only).then_some(hypervisor.as_str());
    check::check(home, name, &snapshot, hypervisor)?;
    Ok(snapshot)
}

/// The first name that no snapshot of a state before a restore has yet.
pub(super) fn free_name(known: &BTreeSet<Name>) -> Name {
    let mut names = (1u32..).filter_map(|number| Name::new(&format!("before-{number}")).ok());
    names
        .find(|name| !known.contains(name))
        .expect("fewer snapshots than numbers")
}

/// A snapshot's releases are a part of it: a binary that changed since is not deployed.
fn with_releases_kept(observed: &Observed) -> Observed {
    let mut observed = observed.clone();
    for domain in observed.domains.values_mut() {
        if let (Some(service), Some(deployed)) = (&mut domain.service, &domain.deployed) {
            service.release = Some(deployed.release.clone());
        }
    }
    observed
}
