//! The stages that every change of a deployment goes through: observe, plan, execute.
//!
//! Owns their order and the start of the journal. Takes no lock, which the caller holds, and prints nothing.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{bail, ensure};
use pspd_lab::{check_free, front_fault};
use pspd_model::hint::Hinted;
use pspd_model::intent::Intent;
use pspd_model::observed::Observed;
use pspd_model::plan::{Action, Plan};
use pspd_model::spec::{Name, Spec};
use tokio_util::sync::CancellationToken;

use crate::archive::Opened;
use crate::cancelled::Cancelled;
use crate::event::Events;
use crate::execute::{Outcome, World, execute};
use crate::hint::told;
use crate::observe::{Extent, Host, observe};
use crate::placement::Placement;
use crate::state::{Home, Journal, Paths};

/// A change of a deployment.
pub struct Run<'a> {
    /// What the journal calls it.
    pub command: &'static str,
    pub paths: &'a Paths,
    pub spec: &'a Spec,
    pub events: &'a Events,
    pub cancel: &'a CancellationToken,
    /// The maximum number of steps that run in parallel.
    pub jobs: usize,
}

/// What a plan is made from.
pub struct Now<'a> {
    pub spec: &'a Spec,
    pub intent: &'a Intent,
    pub observed: &'a Observed,
}

/// Executes the plan that is made from the current state.
pub async fn apply(
    run: Run<'_>,
    extent: Extent,
    plan: impl FnOnce(Now<'_>) -> anyhow::Result<Plan>,
) -> anyhow::Result<Outcome> {
    let home = run.paths.deployment(&run.spec.name);
    home.create()?;
    run.paths.register()?;
    let interrupted = note_interrupted(&home, run.events)?;
    let observed = async {
        let host = Host::attach(run.paths, run.spec).await?;
        if interrupted {
            await_jobs(&host, run.spec).await?;
        }
        let observed = observe(&host, run.spec, extent).await?;
        anyhow::Ok((host, observed))
    };
    let (host, observed) = tokio::select! {
        observed = observed => observed?,
        () = run.cancel.cancelled() => return Err(Cancelled::during("observing the host").into()),
    };
    let plan = plan(Now {
        spec: run.spec,
        intent: &home.intent()?,
        observed: &observed,
    })?;
    refuse_used_ports(&plan, &observed)?;
    refuse_fronts_without_proxy(&plan)?;
    for note in &plan.notes {
        run.events.note(note.clone());
    }
    let world = world(&run, host)?;
    execute_journaled(&run, &plan, world).await
}

/// Places an archive whose manifest was checked: there is nothing to observe yet.
pub async fn import(
    run: Run<'_>,
    plan: &Plan,
    opened: Opened,
    placement: Arc<Placement>,
) -> anyhow::Result<Outcome> {
    run.paths.register()?;
    note_interrupted(&placement.home, run.events)?;
    let host = Host::of_nothing(run.paths, run.spec);
    let world = world(&run, host)?.importing(opened, placement);
    execute_journaled(&run, plan, world).await
}

/// Refuses ports that cannot be published, before anything is changed. Those that the deployment itself has change hands
/// within the plan.
fn refuse_used_ports(plan: &Plan, observed: &Observed) -> anyhow::Result<()> {
    let own = observed.published.keys().chain(observed.fronts.keys());
    let own: BTreeSet<u16> = own.map(SocketAddr::port).collect();
    let wanted = plan.steps.iter().filter_map(|step| match &step.action {
        Action::Publish { host, .. } => Some(*host),
        _ => None,
    });
    let used = wanted.filter(|host| !own.contains(&host.port()));
    let used = used.filter_map(|host| Some(told(&check_free(host).err()?)));
    let used: Vec<String> = used.collect();
    ensure!(
        used.is_empty(),
        Hinted::new(
            format!("{}\nNothing was started", used.join("\n")),
            "Change `publish` in the topology, or end what uses the port",
        )
    );
    Ok(())
}

/// Refuses to publish HTTP servers without the program that does it, before anything is changed.
fn refuse_fronts_without_proxy(plan: &Plan) -> anyhow::Result<()> {
    let is_front = |action: &Action| match action {
        Action::Publish { to, .. } | Action::ChangeFront { to, .. } => to.front.is_some(),
        _ => false,
    };
    if plan.steps.iter().any(|step| is_front(&step.action))
        && let Some(fault) = front_fault()
    {
        let hint = fault.hint().to_owned();
        bail!(Hinted::new(format!("{fault}\nNothing was started"), hint));
    }
    Ok(())
}

/// Says where the last run was interrupted, and returns whether it was.
fn note_interrupted(home: &Home, events: &Events) -> anyhow::Result<bool> {
    let steps = Journal::under_way(&home.journal_file())?;
    for step in &steps {
        events.note(format!(
            "a previous run was interrupted during `{step}`; continuing from the current state"
        ));
    }
    Ok(!steps.is_empty())
}

/// Waits until libvirt has ended what the interrupted run asked for: its result is a part of the current state.
async fn await_jobs(host: &Host, spec: &Spec) -> anyhow::Result<()> {
    let Some(connection) = host.connection.clone() else {
        return Ok(());
    };
    let (deployment, names) = (spec.name.clone(), spec.domains.keys().cloned());
    let names: Vec<Name> = names.collect();
    let wait = move || -> anyhow::Result<()> {
        for name in names {
            if let Some(domain) = connection.domain(&deployment, name.as_str())? {
                domain.await_job()?;
            }
        }
        Ok(())
    };
    tokio::task::spawn_blocking(wait).await?
}

fn world(run: &Run<'_>, host: Host) -> anyhow::Result<World> {
    let (events, cancel) = (run.events.clone(), run.cancel.clone());
    World::new(host, run.spec.clone(), events, cancel)
}

async fn execute_journaled(run: &Run<'_>, plan: &Plan, world: World) -> anyhow::Result<Outcome> {
    let file = world.home.journal_file();
    let journal = Journal::start(&file, run.command, plan.steps.len())?;
    execute(plan, Arc::new(world), &journal, run.jobs).await
}
