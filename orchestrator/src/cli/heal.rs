//! `pspd heal`: ends faults.

use std::collections::BTreeSet;

use anyhow::ensure;
use pspd_model::hint::Hinted;
use pspd_model::intent::Intent;
use pspd_model::spec::{Name, Spec};
use tokio_util::sync::CancellationToken;

use super::context::{Context, block_on, cancelled_by_signals};
use super::exit::Exit;
use super::options::Options;
use super::run::{Change, WITHOUT, change};
use crate::apply::Now;
use crate::observe::{Extent, Host, observe};
use crate::report;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  pspd heal\n  pspd heal 2")]
pub(super) struct Args {
    /// The faults' ids, as `pspd status` shows them; all faults if none is named
    #[arg(value_name = "ID")]
    pub(super) ids: Vec<String>,
    #[command(flatten)]
    pub(super) options: Options,
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let spec = context.existing_spec()?;
    if args.options.dry_run {
        return show(context, &spec, &args);
    }
    let healing = Healing {
        ids: args.ids,
        json: args.options.json,
        no_wait: args.options.no_wait,
    };
    block_on(async {
        let cancel = cancelled_by_signals()?;
        heal(context, spec, healing, cancel).await
    })
}

fn show(context: &Context, spec: &Spec, args: &Args) -> anyhow::Result<Exit> {
    let plan = block_on(async {
        let host = Host::attach(&context.paths, spec).await?;
        let intent = host.home.intent()?;
        let observed = observe(&host, spec, extent(spec, &intent)).await?;
        let ids = named(&args.ids, &intent)?;
        Ok(pspd_model::plan::heal(spec, &intent, &observed, &ids)?)
    })?;
    report::plan(&plan, WITHOUT, args.options.json)?;
    Ok(Exit::Done)
}

/// Which faults end, and how that is reported.
pub(super) struct Healing {
    pub ids: Vec<String>,
    pub json: bool,
    pub no_wait: bool,
}

pub(super) async fn heal(
    context: &Context,
    spec: Spec,
    healing: Healing,
    cancel: CancellationToken,
) -> anyhow::Result<Exit> {
    let intent = context.paths.deployment(&spec.name).intent()?;
    let extent = extent(&spec, &intent);
    let change_to = Change {
        command: "heal",
        json: healing.json,
        no_wait: healing.no_wait,
        jobs: crate::execute::JOBS,
        extent,
        forget: false,
    };
    let mut healed = 0;
    let exit = change(context, spec, change_to, cancel, |now| {
        let Now {
            spec,
            intent,
            observed,
        } = now;
        ensure!(
            extent == Extent::Complete || self::extent(spec, intent) == extent,
            Hinted::new(
                "another pspd process injected a fault meanwhile",
                "Run `pspd heal` again",
            )
        );
        let ids = named(&healing.ids, intent)?;
        healed = ids.len();
        Ok(pspd_model::plan::heal(spec, intent, observed, &ids)?)
    })
    .await?;
    if exit == Exit::Done && !healing.json {
        report::say(match healed {
            0 => "no fault was active\n".to_owned(),
            1 => "1 fault ended\n".to_owned(),
            count => format!("{count} faults ended\n"),
        });
    }
    Ok(exit)
}

/// What is looked at: bringing a domain back needs all of it, and asks each service for its health.
pub(super) fn extent(spec: &Spec, intent: &Intent) -> Extent {
    let mut domains = spec.domains.keys();
    if domains.any(|name| intent.holds_power(name)) {
        Extent::Complete
    } else {
        Extent::Existing
    }
}

/// The ids that were named; all that there are where none was.
fn named(ids: &[String], intent: &Intent) -> anyhow::Result<BTreeSet<Name>> {
    if ids.is_empty() {
        return Ok(intent.faults.keys().cloned().collect());
    }
    let ids = ids.iter().map(|id| Ok(Name::new(id)?));
    ids.collect()
}
