//! `pspd up`: creates or updates a deployment.

use super::context::{Context, block_on, cancelled_by_signals};
use super::exit::Exit;
use super::run::{Change, change, plan_up};
use crate::observe::Extent;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd up\n  pspd up --json | jq .event\n  pspd --deployment demo up"
)]
pub(super) struct Args {
    /// Print one JSON event per line on stdout
    #[arg(long)]
    pub(super) json: bool,
    /// Fail with exit code 5 instead of waiting while another pspd process works on this deployment
    #[arg(long)]
    no_wait: bool,
    /// Replace a deployment of the same name that came from another directory
    #[arg(long)]
    adopt: bool,
    /// The maximum number of steps that run in parallel
    #[arg(long, value_name = "COUNT", default_value_t = crate::execute::JOBS, value_parser = positive)]
    jobs: usize,
}

impl Args {
    /// Whether it may replace a deployment from another directory.
    pub(super) fn adopts(&self) -> bool {
        self.adopt
    }
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let spec = context.spec()?;
    if !args.adopt {
        context.refuse_other_origin(
            &spec,
            "Change its `name`, or pass `--adopt` to replace the deployment",
        )?;
    }
    let (home, origin) = (context.paths.deployment(&spec.name), context.origin());
    block_on(async {
        let cancel = cancelled_by_signals()?;
        let change_to = Change {
            command: "up",
            json: args.json,
            no_wait: args.no_wait,
            jobs: args.jobs,
            extent: Extent::Complete,
            forget: false,
        };
        change(context, spec, change_to, cancel, |now| {
            plan_up(&home, origin.as_deref(), &now)
        })
        .await
    })
}

pub(super) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{error}")),
    }
}
