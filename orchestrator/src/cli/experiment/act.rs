//! The steps of an experiment, each by what its command does.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use pspd_model::experiment::Action;
use pspd_model::spec::{Name, Spec};
use tokio_util::sync::CancellationToken;

use crate::cli::context::Context;
use crate::cli::run::{Change, outcome, plan_up};
use crate::cli::{fault, heal, power};
use crate::execute::{self, Outcome};
use crate::experiment::Deed;
use crate::observe::Extent;
use crate::topology;

/// Checks an action before the experiment.
pub(super) fn check(spec: &Spec, action: &Action) -> anyhow::Result<()> {
    match action {
        Action::Fault { words, .. } => fault::effect(spec, words).map(drop),
        Action::Power { words } => power::goal(spec, words).map(drop),
        Action::Up { file } => next(spec, file).map(drop),
        Action::Heal => Ok(()),
    }
}

/// The spec of a topology that this deployment is updated to.
fn next(spec: &Spec, file: &Path) -> anyhow::Result<Spec> {
    let next = topology::load(file)?;
    ensure!(
        next.name == spec.name,
        "`{}` is the topology of `{}`, and the experiment runs on `{}`",
        file.display(),
        next.name,
        spec.name
    );
    Ok(next)
}

/// Whether a plan was done; the error is that of the first step that failed.
pub(super) fn succeeded(outcome: Outcome) -> anyhow::Result<()> {
    if outcome.is_success() {
        return Ok(());
    }
    match outcome.failed.into_iter().next() {
        Some((_, error)) => Err(error),
        None => Err(anyhow!("interrupted")),
    }
}

pub(super) struct Actor<'a> {
    context: &'a Context,
    /// What is deployed: a step can change it.
    spec: Spec,
    cancel: &'a CancellationToken,
}

impl<'a> Actor<'a> {
    pub(super) fn new(context: &'a Context, spec: Spec, cancel: &'a CancellationToken) -> Self {
        Actor {
            context,
            spec,
            cancel,
        }
    }

    /// Returns the id of a fault that is left to heal.
    pub(super) async fn act(&mut self, deed: Deed<'_>) -> anyhow::Result<Option<Name>> {
        match deed {
            Deed::Fault { words, lasts } => return self.inject(words, lasts).await,
            Deed::Heal(ids) => self.heal(ids).await?,
            Deed::Power(words) => self.power(words).await?,
            Deed::Up(file) => self.up(file).await?,
        }
        Ok(None)
    }

    async fn inject(&self, words: &str, lasts: Option<Duration>) -> anyhow::Result<Option<Name>> {
        let effect = fault::effect(&self.spec, words)?;
        let momentary = effect.is_momentary();
        let mut injected = None;
        let change = change("fault", Extent::Existing);
        let outcome = outcome(self.context, &self.spec, &change, self.cancel, |now| {
            let (spec, intent, observed) = (now.spec, now.intent, now.observed);
            let planned = pspd_model::plan::inject(spec, intent, observed, effect, lasts);
            let (id, plan) = planned?;
            injected = Some(id);
            Ok(plan)
        })
        .await?;
        let done = succeeded(outcome);
        let left = injected.filter(|_| !momentary);
        if let (Err(_), Some(id)) = (&done, &left) {
            // What was applied of it is of no use.
            self.heal(vec![id.clone()]).await?;
        }
        done.map(|()| left)
    }

    /// Also after Ctrl-C.
    async fn heal(&self, ids: Vec<Name>) -> anyhow::Result<()> {
        let ids: BTreeSet<Name> = ids.into_iter().collect();
        let intent = self.context.paths.deployment(&self.spec.name).intent()?;
        let change = change("heal", heal::extent(&self.spec, &intent));
        let cancel = CancellationToken::new();
        let outcome = outcome(self.context, &self.spec, &change, &cancel, |now| {
            Ok(pspd_model::plan::heal(
                now.spec,
                now.intent,
                now.observed,
                &ids,
            )?)
        });
        succeeded(outcome.await?)
    }

    async fn power(&self, words: &str) -> anyhow::Result<()> {
        let (goal, names) = power::goal(&self.spec, words)?;
        let change = change(goal.word(), Extent::Existing);
        let outcome = outcome(self.context, &self.spec, &change, self.cancel, |now| {
            let (spec, intent, observed) = (now.spec, now.intent, now.observed);
            Ok(pspd_model::plan::power(
                spec, intent, observed, goal, &names,
            )?)
        });
        succeeded(outcome.await?)
    }

    async fn up(&mut self, file: &Path) -> anyhow::Result<()> {
        self.spec = next(&self.spec, file)?;
        let home = self.context.paths.deployment(&self.spec.name);
        let change = change("up", Extent::Complete);
        let outcome = outcome(self.context, &self.spec, &change, self.cancel, |now| {
            plan_up(&home, None, &now)
        });
        succeeded(outcome.await?)
    }
}

fn change(command: &'static str, extent: Extent) -> Change {
    Change {
        command,
        json: false,
        no_wait: false,
        jobs: execute::JOBS,
        extent,
        forget: false,
    }
}
