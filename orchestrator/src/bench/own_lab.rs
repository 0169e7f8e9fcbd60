//! A benchmark's own deployment: a lab in a folder of its own, which is removed afterwards.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use pspd_lab::Lab;
use pspd_model::plan::{self, Plan, Volumes};
use pspd_model::spec::Spec;
use tokio_util::sync::CancellationToken;

use crate::apply::{Now, Run, apply};
use crate::cancelled::Cancelled;
use crate::event::Events;
use crate::execute::JOBS;
use crate::observe::Extent;
use crate::state::Paths;
use crate::topology;

pub(super) struct OwnLab {
    pub(super) paths: Paths,
    pub(super) spec: Spec,
    /// What a cancellation interrupts.
    during: &'static str,
}

impl OwnLab {
    /// Nothing is started yet. `folder` is for the lab alone; images come from `cache`.
    pub(super) fn new(
        folder: &Path,
        cache: &Path,
        topology: &str,
        during: &'static str,
    ) -> anyhow::Result<OwnLab> {
        let file = folder.join("topology.yaml");
        fs::write(&file, topology).context("failed to write the benchmark's topology")?;
        Ok(OwnLab {
            spec: topology::load(&file)?,
            paths: Paths {
                state: folder.join("state"),
                cache: cache.to_owned(),
            },
            during,
        })
    }

    /// Executes the plan that is made from the lab's current state.
    pub(super) async fn change(
        &self,
        events: &Events,
        cancel: &CancellationToken,
        plan: impl FnOnce(Now<'_>) -> anyhow::Result<Plan>,
    ) -> anyhow::Result<()> {
        let run = Run {
            command: "bench",
            paths: &self.paths,
            spec: &self.spec,
            events,
            cancel,
            jobs: JOBS,
        };
        let outcome = apply(run, Extent::Complete, plan).await?;
        if outcome.cancelled {
            return Err(Cancelled::during(self.during).into());
        }
        match outcome.failed.into_iter().next() {
            Some((step, error)) => Err(error.context(step.title())),
            None => Ok(()),
        }
    }

    /// Removes everything, even after Ctrl-C.
    pub(super) async fn remove(&self, events: &Events) -> anyhow::Result<()> {
        let down = |now: Now<'_>| {
            let (spec, intent) = (now.spec, now.intent);
            Ok(plan::down(spec, intent, now.observed, Volumes::Delete))
        };
        let removed = self.change(events, &CancellationToken::new(), down).await;
        // The plan leaves a lab with foreign objects running, such as those of an interrupted try. All of them are ours.
        if let Some(lab) = Lab::running(&self.paths.deployment(&self.spec.name).lab())? {
            lab.stop().context("failed to stop the lab")?;
        }
        removed.context("failed to remove the lab")
    }
}
