//! `pspd set`: other memory or vCPUs than the topology gives a domain, until the next `up`.

use pspd_model::spec::Size;

use super::completions;
use super::context::{Context, block_on, cancelled_by_signals, domain};
use super::exit::Exit;
use super::options::Options;
use super::run::{Change, change, dry_run};
use super::up::positive;
use crate::apply::Now;
use crate::observe::Extent;

#[derive(clap::Args)]
#[command(after_help = "Example:\n  pspd set ai-server --memory 1GiB")]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["memory", "vcpus"])))]
pub(super) struct Args {
    /// The domain
    #[arg(value_name = "NAME", add = completions::domains())]
    pub(super) name: String,
    /// Its memory, such as `1 GiB`: applies at once, up to the maximum that it was started with
    #[arg(long, value_name = "SIZE", value_parser = pspd_model::topology::size)]
    memory: Option<Size>,
    /// Its virtual CPUs, from its next start on
    #[arg(long, value_name = "COUNT", value_parser = vcpus)]
    vcpus: Option<u32>,
    #[command(flatten)]
    pub(super) options: Options,
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let spec = context.existing_spec()?;
    let name = domain(&spec, &args.name)?;
    block_on(async {
        let plan = |now: Now<'_>| {
            let (spec, observed) = (now.spec, now.observed);
            Ok(pspd_model::plan::set(
                spec,
                observed,
                &name,
                args.memory,
                args.vcpus,
            )?)
        };
        if args.options.dry_run {
            return dry_run(context, &spec, args.options.json, plan).await;
        }
        let cancel = cancelled_by_signals()?;
        let change_to = Change {
            command: "set",
            json: args.options.json,
            no_wait: args.options.no_wait,
            jobs: crate::execute::JOBS,
            extent: Extent::Existing,
            forget: false,
        };
        change(context, spec.clone(), change_to, cancel, plan).await
    })
}

fn vcpus(text: &str) -> Result<u32, String> {
    u32::try_from(positive(text)?).map_err(|error| error.to_string())
}
