//! `pspd down`: tears a deployment down.

use std::io::Write as _;

use anyhow::{bail, ensure};
use pspd_lab::Relay;
use pspd_model::hint::Hinted;
use pspd_model::plan::Volumes;

use super::context::{Context, block_on, cancelled_by_signals};
use super::exit::Exit;
use super::run::{Change, change};
use crate::observe::Extent;
use crate::report::counted;
use crate::state::Home;
use crate::{disk, systemd};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd down\n  pspd down --save\n  pspd down --volumes --snapshots"
)]
pub(super) struct Args {
    /// Also delete data volumes and keys
    #[arg(long)]
    volumes: bool,
    /// With `--volumes`: also delete snapshots
    #[arg(long, requires = "volumes")]
    snapshots: bool,
    /// Save the memory of the domains first, all of one instant; the next `up` continues from it
    #[arg(long, conflicts_with = "volumes")]
    pub(super) save: bool,
    /// Print one JSON event per line on stdout
    #[arg(long)]
    pub(super) json: bool,
    /// Fail with exit code 5 instead of waiting while another pspd process works on this deployment
    #[arg(long)]
    no_wait: bool,
}

impl Args {
    /// Whether nothing is left of the deployment afterwards.
    pub(super) fn forgets(&self) -> bool {
        self.volumes
    }
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    if let Some(name) = context.never_sent() {
        return nothing_to_do(&name);
    }
    let spec = context.deployed_spec()?;
    let home = context.paths.deployment(&spec.name);
    context.refuse_other_origin(
        &spec,
        format!("Pass `--deployment {}` to take it down anyway", spec.name),
    )?;
    // Its files may be gone, and its guests not.
    if !home.exists() && Relay::running(&home.lab())?.is_none() {
        if let Some(other) = context.names_from_here()? {
            let message = format!(
                "deployment `{}` does not exist on this host. Deployments of `{}`: {other}",
                spec.name,
                context.file.display()
            );
            bail!(Hinted::new(
                message,
                "Pass `--deployment NAME` to take one down"
            ));
        }
        return nothing_to_do(spec.name.as_str());
    }
    let kept = home.snapshot_names()?.len();
    ensure!(
        kept == 0 || !args.volumes || args.snapshots,
        Hinted::new(
            format!(
                "`{}` has {}, which need its data volumes and keys",
                spec.name,
                counted(kept, "snapshot")
            ),
            "Pass `--snapshots` to delete them, too, or run `pspd down` to keep all",
        )
    );
    block_on(async {
        let cancel = cancelled_by_signals()?;
        let volumes = if args.volumes {
            Volumes::Delete
        } else {
            Volumes::Keep
        };
        let change_to = Change {
            command: "down",
            json: args.json,
            no_wait: args.no_wait,
            jobs: crate::execute::JOBS,
            extent: Extent::Existing,
            forget: args.volumes,
        };
        change(context, spec, change_to, cancel, |now| {
            if args.volumes {
                refuse_cloned(&home)?;
            }
            let (spec, intent, observed) = (now.spec, now.intent, now.observed);
            let mut plan = if args.save {
                pspd_model::plan::down_saved(spec, intent, observed)?
            } else {
                pspd_model::plan::down(spec, intent, observed, volumes)
            };
            if args.volumes && systemd::starts(&spec.name) {
                let note = "its unit stays; `pspd service uninstall` removes it";
                plan.notes.push(note.to_owned());
            }
            Ok(plan)
        })
        .await
    })
}

fn nothing_to_do(name: &str) -> anyhow::Result<Exit> {
    let text = format!("deployment `{name}` does not exist on this host; nothing to do");
    writeln!(crate::terminal::err(), "{text}")?;
    Ok(Exit::Done)
}

/// The disks of a clone are over the layers of what it was made from.
fn refuse_cloned(home: &Home) -> anyhow::Result<()> {
    let clones = disk::clones(home)?;
    let Some(clone) = clones.keys().next() else {
        return Ok(());
    };
    let original = home.deployment();
    bail!(Hinted::new(
        format!("the disks of `{clone}`, a clone of `{original}`, need those of `{original}`"),
        format!(
            "Run `pspd --deployment {clone} down --volumes` first, or run `pspd down` to keep them"
        ),
    ))
}
