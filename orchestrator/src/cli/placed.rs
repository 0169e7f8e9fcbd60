//! What `pspd import` and `pspd clone` share: a deployment that was placed on this host, and is brought up like any other.

use std::io::Write as _;

use anyhow::Context as _;
use pspd_model::spec::Spec;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::exit::{Coded, Exit};
use super::run::{Change, change, plan_up};
use crate::execute::JOBS;
use crate::observe::Extent;
use crate::placement::{Placement, TOPOLOGY};
use crate::state::resolved_origin;
use crate::topology;

/// From then on it exists: without its folder, `--deployment` still names it.
pub(super) fn record(placement: &Placement) -> anyhow::Result<()> {
    placement.home.record_spec(&placement.spec)?;
    if let Some(origin) = resolved_origin(&placement.folder.join(TOPOLOGY)) {
        placement.home.record_origin(&origin)?;
    }
    Ok(())
}

/// Prints the deployment that would be created.
pub(super) fn describe(placement: &Placement) -> anyhow::Result<()> {
    let spec = &placement.spec;
    let mut out = crate::terminal::out();
    writeln!(
        out,
        "`{}` on {}, network {}, into `{}`",
        spec.name,
        spec.connection,
        spec.network.cidr,
        placement.folder.display()
    )?;
    for domain in spec.domains.values() {
        let published: Vec<String> = domain.publish.iter().map(ToString::to_string).collect();
        writeln!(
            out,
            "  {}  {}  {} memory, {} vCPUs, published on [{}]",
            domain.name,
            domain.address,
            domain.memory.current,
            domain.vcpus.current,
            published.join(", ")
        )?;
    }
    Ok(())
}

/// Does the same as `pspd up` in the new topology's directory.
pub(super) async fn up(
    context: &Context,
    placement: &Placement,
    json: bool,
    cancel: CancellationToken,
) -> anyhow::Result<Exit> {
    let file = placement.folder.join(TOPOLOGY);
    let spec: Spec = topology::load(&file)
        .map_err(|faults| Coded {
            exit: Exit::InvalidTopology,
            message: faults.to_string(),
            hint: None,
        })
        .context("failed to load the placed topology")?;
    let change_to = Change {
        command: "up",
        json,
        no_wait: false,
        jobs: JOBS,
        extent: Extent::Complete,
        forget: false,
    };
    change(context, spec, change_to, cancel, |now| {
        plan_up(&placement.home, resolved_origin(&file).as_deref(), &now)
    })
    .await
}
