//! `pspd plan`: shows what `up` would do, and why.

use super::context::{Context, block_on};
use super::exit::Exit;
use crate::observe::{Extent, Host, observe};
use crate::report;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  pspd plan\n  pspd plan --json | jq .steps")]
pub(super) struct Args {
    /// Print the plan as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Plan for a deployment of the same name that came from another directory
    #[arg(long)]
    adopt: bool,
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let spec = context.spec()?;
    if !args.adopt {
        context.refuse_other_origin(
            &spec,
            "Change its `name`, or pass `--adopt` to plan for it anyway",
        )?;
    }
    let plan = block_on(async {
        let host = Host::attach(&context.paths, &spec).await?;
        let observed = observe(&host, &spec, Extent::Complete).await?;
        let intent = host.home.intent()?;
        anyhow::Ok(pspd_model::plan::drift(&spec, &intent, &observed)?)
    })?;
    report::plan(&plan, "run `pspd up`", args.json)?;
    Ok(if plan.is_empty() {
        Exit::Done
    } else {
        Exit::Differs
    })
}
