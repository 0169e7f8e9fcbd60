//! `pspd start`, `stop`, `restart`, `pause`, `resume`, `save` and `restore`: the power of domains.

use std::collections::BTreeSet;

use pspd_model::plan::{Plan, PlanError, PowerGoal, Restart, StopMode};
use pspd_model::spec::{Name, Spec};

use super::completions;
use super::context::{Context, block_on, cancelled_by_signals, domain};
use super::exit::Exit;
use super::options::Options;
use super::run::{Change, change, dry_run};
use crate::observe::Extent;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The domains; all if none is named
    #[arg(value_name = "NAME", add = completions::domains())]
    pub(super) names: Vec<String>,
    #[command(flatten)]
    pub(super) options: Options,
}

/// The commands of this file as one text.
#[derive(clap::Parser)]
#[command(no_binary_name = true)]
enum Words {
    Start(Args),
    Stop(StopArgs),
    Restart(RestartArgs),
    Pause(Args),
    Resume(Args),
    Save(Args),
    Restore(Args),
}

/// What the arguments of a command of this file ask for, without its options.
pub(super) fn goal(spec: &Spec, words: &str) -> anyhow::Result<(PowerGoal, BTreeSet<Name>)> {
    let (goal, args) = match super::options::words(words)? {
        Words::Start(args) => (PowerGoal::Start, args),
        Words::Stop(args) => (args.goal(), args.args),
        Words::Restart(args) => (args.goal(), args.args),
        Words::Pause(args) => (PowerGoal::Pause, args),
        Words::Resume(args) => (PowerGoal::Resume, args),
        Words::Save(args) => (PowerGoal::Save, args),
        Words::Restore(args) => (PowerGoal::Restore, args),
    };
    args.options.refuse(words)?;
    let names = args.names.iter().map(|name| domain(spec, name));
    Ok((goal, names.collect::<anyhow::Result<_>>()?))
}

#[derive(clap::Args)]
pub(super) struct StopArgs {
    /// Force the domains off instead of shutting the guests down
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pub(super) args: Args,
}

#[derive(clap::Args)]
pub(super) struct RestartArgs {
    /// Stop and start the machines, with new processes, instead of restarting their guests
    #[arg(long)]
    cold: bool,
    #[command(flatten)]
    pub(super) args: Args,
}

impl StopArgs {
    fn goal(&self) -> PowerGoal {
        PowerGoal::Stop(if self.force {
            StopMode::Force
        } else {
            StopMode::Shutdown
        })
    }
}

impl RestartArgs {
    fn goal(&self) -> PowerGoal {
        PowerGoal::Restart(if self.cold {
            Restart::Cold
        } else {
            Restart::Warm
        })
    }
}

pub(super) fn stop(context: &Context, args: StopArgs) -> anyhow::Result<Exit> {
    run(context, args.goal(), args.args)
}

pub(super) fn restart(context: &Context, args: RestartArgs) -> anyhow::Result<Exit> {
    run(context, args.goal(), args.args)
}

pub(super) fn run(context: &Context, goal: PowerGoal, args: Args) -> anyhow::Result<Exit> {
    let spec = context.existing_spec()?;
    let names = args.names.iter().map(|name| domain(&spec, name));
    let names: BTreeSet<Name> = names.collect::<anyhow::Result<_>>()?;
    block_on(async {
        let plan = |now: crate::apply::Now<'_>| {
            let (spec, intent, observed) = (now.spec, now.intent, now.observed);
            match pspd_model::plan::power(spec, intent, observed, goal, &names) {
                // Domains of other hosts may have some.
                Err(PlanError::NothingSaved { .. }) if context.is_one_of_several() => {
                    Ok(Plan::default())
                }
                plan => Ok(plan?),
            }
        };
        if args.options.dry_run {
            return dry_run(context, &spec, args.options.json, plan).await;
        }
        let cancel = cancelled_by_signals()?;
        let change_to = Change {
            command: goal.word(),
            json: args.options.json,
            no_wait: args.options.no_wait,
            jobs: crate::execute::JOBS,
            extent: Extent::Existing,
            forget: false,
        };
        change(context, spec.clone(), change_to, cancel, plan).await
    })
}
