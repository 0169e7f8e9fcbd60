//! One run: the load, the timeline and the watched services at the same time, then the checks.

use std::cell::RefCell;
use std::time::Duration;

use futures::future::join_all;
use jiff::{Timestamp, Unit};
use pspd_model::experiment::Experiment;
use pspd_model::hint::Hinted;
use pspd_model::spec::{Name, Spec};
use tokio_util::sync::CancellationToken;

use super::check::Check;
use super::checks::{self, Sample};
use super::history;
use super::load::{ENDLESS, Running, Sending};
use super::result::Run;
use super::timeline::{Deed, play};
use crate::bench::load::{Load, Results};
use crate::event::seconds;
use crate::health::{self, Health};
use crate::identity::Identity;
use crate::reach::Reach;

/// The time limit of a check of a service that is watched.
const WATCHED: Duration = Duration::from_secs(2);
/// The time limit of the check of each service at the end.
const LAST: Duration = Duration::from_secs(10);
/// The time limit for reading all documents at the end.
const READ_BACK: Duration = Duration::from_secs(60);

/// An experiment on a deployment.
pub struct Setup<'a> {
    pub experiment: &'a Experiment,
    pub spec: &'a Spec,
    pub reach: &'a Reach,
    pub identity: &'a Identity,
    /// The load; its time is that of the phases.
    pub sending: Sending,
    /// The target and what is called, for the report.
    pub about: (String, String),
}

impl Setup<'_> {
    fn services(&self) -> impl Iterator<Item = &Name> {
        let domains = self.spec.domains.values();
        let services = domains.filter(|domain| domain.service.is_some());
        services.map(|domain| &domain.name)
    }

    async fn health(&self) -> Vec<(&Name, Health)> {
        let checks = self.services().map(async |name| {
            let health = health::check(self.reach, self.spec, name, self.identity, LAST);
            (name, health.await)
        });
        join_all(checks).await
    }
}

/// Runs it once. `act` does the steps. An error is that it could not begin, or was interrupted: what does not hold is in the
/// result.
pub async fn run<A>(setup: &Setup<'_>, act: A, cancel: &CancellationToken) -> anyhow::Result<Run>
where
    A: AsyncFnMut(Deed<'_>) -> anyhow::Result<Option<Name>>,
{
    for (name, health) in setup.health().await {
        anyhow::ensure!(
            health == Health::Serving,
            Hinted::new(
                format!(
                    "the service of `{name}` is not SERVING before the experiment ({})",
                    described(&health)
                ),
                "Run `pspd up` first",
            )
        );
    }
    let load = Load {
        warm_up: Duration::ZERO,
        time: ENDLESS,
        ..setup.sending.load
    };
    let sending = Sending {
        load,
        ..setup.sending.clone()
    };
    let started = Timestamp::now().round(Unit::Second)?.to_string();
    let running = Running::start(sending, cancel).await?;
    let (begin, documents) = (running.begin, running.documents.clone());
    let (samples, watching) = (RefCell::new(Vec::new()), CancellationToken::new());
    let watched = join_all(setup.services().map(|name| {
        let report = |began: tokio::time::Instant, health| {
            samples.borrow_mut().push(Sample {
                domain: name.clone(),
                from: began.into_std().saturating_duration_since(begin),
                to: begin.elapsed(),
                health,
            });
        };
        let (reach, spec, identity) = (setup.reach, setup.spec, setup.identity);
        health::watch(reach, spec, name, identity, WATCHED, &watching, report)
    }));
    let played = async {
        let timeline = play(&setup.experiment.phases, begin, cancel, act).await;
        let measured = running.end().await;
        watching.cancel();
        (timeline, measured)
    };
    let ((timeline, measured), _) = tokio::join!(played, watched);
    let measured = measured?;
    anyhow::ensure!(
        !cancel.is_cancelled(),
        "interrupted; the faults of the experiment are healed, and no report was written"
    );
    let took = begin.elapsed();
    let samples = samples.into_inner();
    let calls = measured.calls();
    let phases = checks::phases(&timeline.phases, calls);
    let events = checks::events(&timeline);
    let faults = checks::faults(&timeline.faults, &samples, calls);
    let mut held = checks::checks(setup.experiment, &phases, &events, &faults);
    held.push(serving(&setup.health().await));
    let mut history = None;
    if let Some(documents) = documents {
        let end = documents.elapsed();
        let found = documents.found(READ_BACK).await;
        let recorded = documents.recorded();
        let (judged, checks) = history::judge(documents.collection(), &recorded, found, end);
        history = Some(judged);
        held.extend(checks);
    }
    let (target, call) = setup.about.clone();
    Ok(Run {
        started,
        seconds: seconds(took),
        passed: held.iter().all(|check| check.passed),
        checks: held,
        phases,
        events,
        faults,
        health: checks::health(&samples),
        history,
        load: Results::new(target, call, setup.sending.connections, &load, &measured),
    })
}

fn serving(health: &[(&Name, Health)]) -> Check {
    let other = health
        .iter()
        .filter(|(_, health)| *health != Health::Serving);
    let other: Vec<String> = other
        .map(|(name, health)| format!("{name}: {}", described(health)))
        .collect();
    let name = "services SERVING at the end";
    match other.is_empty() {
        true => Check::passed(name, format!("{} of {}", health.len(), health.len())),
        false => Check::failed(name, other.join("; ")),
    }
}

fn described(health: &Health) -> String {
    match health {
        Health::Serving => "SERVING".to_owned(),
        Health::NotServing => "NOT_SERVING".to_owned(),
        Health::Unreachable(cause) => cause.clone(),
    }
}
