//! `pspd volume`: removes data volumes that no domain uses.

use std::io::Write as _;

use super::context::{Context, block_on, cancelled_by_signals};
use super::exit::Exit;
use super::run::{Change, change};
use crate::observe::Extent;

#[derive(clap::Args)]
#[command(after_help = "Example:\n  pspd volume prune")]
pub(super) struct Args {
    #[command(subcommand)]
    command: VolumeCommand,
}

#[derive(clap::Subcommand)]
enum VolumeCommand {
    /// Delete data volumes of domains and volumes that the last `up` did not have
    #[command(after_help = "Example:\n  pspd volume prune")]
    Prune {
        /// Print one JSON event per line on stdout
        #[arg(long)]
        json: bool,
        /// Fail with exit code 5 instead of waiting while another pspd process works on this deployment
        #[arg(long)]
        no_wait: bool,
    },
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let VolumeCommand::Prune { json, no_wait } = args.command;
    // A topology that was edited since says nothing about domains that still run.
    let spec = context.deployed_spec()?;
    context.refuse_other_origin(
        &spec,
        format!(
            "Pass `--deployment {}` to delete its volumes anyway",
            spec.name
        ),
    )?;
    if !context.paths.deployment(&spec.name).exists() {
        writeln!(
            crate::terminal::err(),
            "deployment `{}` does not exist on this host; nothing to do",
            spec.name
        )?;
        return Ok(Exit::Done);
    }
    block_on(async {
        let cancel = cancelled_by_signals()?;
        let change_to = Change {
            command: "volume prune",
            json,
            no_wait,
            jobs: crate::execute::JOBS,
            extent: Extent::Existing,
            forget: false,
        };
        change(context, spec, change_to, cancel, |now| {
            Ok(pspd_model::plan::prune_volumes(now.spec, now.observed))
        })
        .await
    })
}
