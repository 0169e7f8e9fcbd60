//! Which host each domain is on, where the topology names none.

use std::collections::BTreeMap;

use futures::future::join_all;
use pspd_model::schedule::{self, Room};
use pspd_model::spec::{Name, Spec};

use crate::cli::context::{Context, block_on, cancelled_by_signals};
use crate::cli::run::reported;
use crate::cli::sending::prepare;
use crate::remote::{self, Ssh};
use crate::report::{self, Style};

/// Gives each domain a host, where the topology has several and names none; it stays where it was.
pub(in crate::cli) fn scheduled(context: &Context, spec: Spec) -> anyhow::Result<Spec> {
    if !spec.is_spread() {
        return Ok(spec);
    }
    let before = context.paths.deployment(&spec.name).recorded_spec()?;
    let before = before.map_or_else(BTreeMap::new, |before| before.domains);
    let before = before
        .into_values()
        .filter_map(|domain| Some((domain.name, domain.host?)))
        .collect();
    let rooms = match schedule::is_due(&spec, &before) {
        true => rooms(&spec)?,
        false => BTreeMap::new(),
    };
    let (spec, choices) = schedule::schedule(spec, &before, &rooms)?;
    for choice in choices {
        report::say(format_args!("note: {choice}\n"));
    }
    Ok(spec)
}

/// Asks all hosts what they have room for.
fn rooms(spec: &Spec) -> anyhow::Result<BTreeMap<Name, Room>> {
    block_on(async {
        let cancel = cancelled_by_signals()?;
        let rooms = reported(Style::for_stderr(), async |events| {
            let rooms = spec.hosts.iter().map(|(name, host)| {
                let (ssh, events, cancel) = (Ssh::to(name, host), events.on(name), &cancel);
                async move {
                    let program = prepare(&ssh, None, &events, cancel).await?;
                    let deployment = spec.name.clone();
                    let asked = move || remote::room(&ssh, &program, &deployment);
                    let room = tokio::task::spawn_blocking(asked).await??;
                    anyhow::Ok((name.clone(), room))
                }
            });
            join_all(rooms).await.into_iter().collect()
        });
        rooms.await
    })
}
