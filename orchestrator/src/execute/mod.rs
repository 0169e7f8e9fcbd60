//! Runs a plan: bounded parallelism, a journal entry before and after each step, undo when the plan asks for it.
//!
//! Decides nothing: a step has all values that it needs. Each action is implemented in a sibling file, one for each
//! kind of thing that is acted on.
//!
//! ```text
//! waiting --(all of `after` ended well)--> running --+--> ended
//!    |                                               +--> failed --> whatever comes after it is left
//!    +--(cancelled, or a step before it failed)--> left
//! ```

mod archive;
mod boots;
mod disk;
mod domain;
mod fault;
mod firmware;
mod hosts;
mod keys;
mod lab;
mod memory;
mod network;
mod reach;
mod service;
mod snapshot;
mod taken;
mod undo;
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pspd_model::hint::joined;
use pspd_model::plan::{Action, Plan, Step, StepId, Undo};
use serde::Serialize;
use tokio::task::JoinSet;

use boots::Boots;

use crate::archive::Packed;
use crate::cancelled::Cancelled;
use crate::event::Event;
use crate::hint::{Told, told};
use crate::state::{Entry, Journal};

pub use world::World;

/// How long the steps under way have to notice that the run was cancelled. Those that wait for libvirt or a guest that
/// hangs do not.
const GRACE: Duration = Duration::from_millis(1500);

/// How many steps run at a time; most of them wait for guests.
pub const JOBS: usize = 16;

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    pub ended: Vec<Ended>,
    pub failed: Vec<(Step, anyhow::Error)>,
    /// Steps that were not started, because one before them failed or the run was cancelled.
    pub left: Vec<Step>,
    /// Steps that were still under way when a cancelled run ended.
    pub abandoned: Vec<Step>,
    /// What was undone, newest first, and what could not be.
    pub undone: Vec<(Step, Option<anyhow::Error>)>,
    pub cancelled: bool,
    /// The archive that was written, if one was.
    pub packed: Option<Packed>,
}

/// A step that ended well.
#[derive(Clone, Debug, Serialize)]
pub struct Ended {
    pub step: Step,
    /// Since the run began.
    pub started: Duration,
    pub elapsed: Duration,
}

impl Outcome {
    pub fn is_success(&self) -> bool {
        self.failed.is_empty() && self.left.is_empty() && !self.cancelled
    }

    /// How long running domains were paused: from the first pause to the last resume.
    pub fn paused_for(&self) -> Option<Duration> {
        let of = |wanted: fn(&Action) -> bool| {
            let ended = self.ended.iter();
            ended.filter(move |ended| wanted(&ended.step.action))
        };
        let paused = of(|action| matches!(action, Action::Pause { .. }));
        let resumed = of(|action| matches!(action, Action::Resume { .. }));
        let began = paused.map(|ended| ended.started).min()?;
        let until = resumed.map(|ended| ended.started + ended.elapsed).max()?;
        Some(until.saturating_sub(began))
    }
}

/// Runs a plan to its end, its first failures' end, or its undo.
///
/// Errors are of the run itself, such as a journal that cannot be written; those of steps are in the [`Outcome`].
pub async fn execute(
    plan: &Plan,
    world: Arc<World>,
    journal: &Journal,
    jobs: usize,
) -> anyhow::Result<Outcome> {
    world.events.emit(Event::Planned {
        steps: plan.steps.len(),
    });
    for step in &plan.steps {
        // Nothing that can be observed on the host says that it was left out.
        if let Action::FileSystems { domain, .. } = &step.action {
            world.home.record_file_systems_due(domain)?;
        }
    }
    let mut run = Run {
        began: Instant::now(),
        world,
        journal,
        waiting: plan.steps.clone(),
        under_way: Vec::new(),
        boots: Boots::of(plan),
        undo: plan.undo,
        well: BTreeSet::new(),
        outcome: Outcome::default(),
    };
    let driven = run.drive(jobs).await;
    let Run {
        world,
        waiting,
        under_way,
        mut outcome,
        ..
    } = run;
    outcome.left = waiting;
    outcome.abandoned = under_way;
    outcome.cancelled = driven.is_ok() && world.cancel.is_cancelled();
    outcome.packed = world.packed();
    let undoes = match plan.undo {
        Undo::WhenCancelled => outcome.cancelled,
        Undo::WhenNotSuccessful => driven.is_err() || !outcome.is_success(),
    };
    for step in &outcome.abandoned {
        world.events.note(format!(
            "`{}` did not stop within {:.1} s of the interruption",
            step.id,
            GRACE.as_secs_f64()
        ));
    }
    // What a step does that is still under way cannot be undone.
    if undoes && outcome.abandoned.is_empty() {
        outcome.undone = undo::undo(&outcome, &world, journal).await?;
    }
    if driven.is_err() {
        // The outcome, which would say it, is not returned.
        for (step, error) in &outcome.undone {
            if let Some(error) = error {
                let note = format!("failed to undo `{}`: {}", step.id, told(error));
                world.events.note(note);
            }
        }
    }
    driven?;
    if outcome.abandoned.is_empty() {
        journal.write(&Entry::Close)?;
    }
    Ok(outcome)
}

struct Run<'a> {
    began: Instant,
    world: Arc<World>,
    journal: &'a Journal,
    waiting: Vec<Step>,
    under_way: Vec<Step>,
    boots: Boots,
    undo: Undo,
    well: BTreeSet<StepId>,
    outcome: Outcome,
}

/// A step's end, as its task reports it.
struct Report {
    step: Step,
    started: Duration,
    elapsed: Duration,
    result: anyhow::Result<()>,
}

impl Run<'_> {
    /// Runs what can run. An error of the run itself ends it when the steps under way have ended.
    async fn drive(&mut self, jobs: usize) -> anyhow::Result<()> {
        let mut running: JoinSet<Report> = JoinSet::new();
        let driven = self.drive_all(&mut running, jobs).await;
        if driven.is_err() {
            self.world.cancel.cancel();
            while let Some(report) = running.join_next().await {
                // What these steps did counts for the undo; the first error is the one that is returned.
                let _ = report.map(|report| self.settle(report));
            }
        }
        driven
    }

    async fn drive_all(
        &mut self,
        running: &mut JoinSet<Report>,
        jobs: usize,
    ) -> anyhow::Result<()> {
        let (cancel, undo) = (self.world.cancel.clone(), self.undo);
        let late = async move {
            cancel.cancelled().await;
            match undo {
                Undo::WhenCancelled => tokio::time::sleep(GRACE).await,
                // Such as paused guests: nothing that was done may be left.
                Undo::WhenNotSuccessful => std::future::pending().await,
            }
        };
        tokio::pin!(late);
        loop {
            while running.len() < jobs && !self.world.cancel.is_cancelled() {
                let Some(index) = self.next() else { break };
                let step = self.waiting.remove(index);
                self.journal.write(&Entry::Begin {
                    step: step.id.to_string(),
                })?;
                self.boots.started(&step.action);
                self.under_way.push(step.clone());
                self.spawn(running, step);
            }
            let report = tokio::select! {
                report = running.join_next() => report,
                () = &mut late => None,
            };
            match report {
                Some(report) => self.settle(report?)?,
                None => return Ok(()),
            }
        }
    }

    /// The first waiting step that can begin.
    fn next(&self) -> Option<usize> {
        let most = self.world.most_boots();
        self.waiting.iter().position(|step| {
            let ready = step.after.iter().all(|id| self.well.contains(id));
            ready && self.boots.permit(&step.action, most)
        })
    }

    fn spawn(&self, running: &mut JoinSet<Report>, step: Step) {
        let (world, started) = (Arc::clone(&self.world), self.began.elapsed());
        let (id, subject, title) = described(&step);
        world.events.emit(Event::Started {
            step: id,
            subject,
            title,
        });
        running.spawn_blocking(move || {
            let start = Instant::now();
            let result = perform(&world, &step);
            Report {
                step,
                started,
                elapsed: start.elapsed(),
                result,
            }
        });
    }

    fn settle(&mut self, report: Report) -> anyhow::Result<()> {
        let Report {
            step,
            started,
            elapsed,
            result,
        } = report;
        self.under_way.retain(|other| other.id != step.id);
        self.boots.ended(&step.action, result.is_ok());
        let (id, subject, title) = described(&step);
        match result {
            Ok(()) => {
                self.well.insert(step.id.clone());
                self.outcome.ended.push(Ended {
                    step,
                    started,
                    elapsed,
                });
                self.journal.write(&Entry::End { step: id.clone() })?;
                self.world.events.emit(Event::Finished {
                    step: id,
                    subject,
                    title,
                    elapsed,
                });
            }
            Err(error) => {
                let Told { error: text, hint } = Told::of(&error);
                let journaled = self.journal.write(&Entry::Fail {
                    step: id.clone(),
                    error: joined(&text, hint.as_deref()),
                });
                if self.world.cancel.is_cancelled() && Cancelled::is_cause_of(&error) {
                    self.waiting.push(step);
                } else {
                    let failed = Event::Failed {
                        step: id,
                        subject,
                        title,
                        error: text,
                        hint,
                    };
                    self.world.events.emit(failed);
                    self.outcome.failed.push((step, error));
                }
                journaled?;
            }
        }
        Ok(())
    }
}

/// A step's id, subject and title, as events carry them.
fn described(step: &Step) -> (String, Option<String>, String) {
    (
        step.id.to_string(),
        step.subject().map(ToString::to_string),
        step.title(),
    )
}

/// Does what a step says; blocks.
fn perform(world: &World, step: &Step) -> anyhow::Result<()> {
    let scope = world
        .events
        .scope(step.id.to_string(), step.subject().map(ToString::to_string));
    match &step.action {
        Action::CreateKeys => keys::create(world),
        Action::RenewCertificate { owner } => keys::renew(world, owner),
        Action::RecordIntent { intent, .. } => world.home.record_intent(intent),
        Action::StartLab => lab::start(world, &scope),
        Action::SetCuts { cuts } => fault::set_cuts(world, cuts),
        Action::SetLink { domain, link } => fault::set_link(world, domain, *link),
        Action::Shape {
            domain,
            address,
            routes,
        } => fault::shape(world, domain, *address, routes),
        Action::Throttle {
            domain,
            disk,
            limit,
        } => fault::throttle(world, domain, disk, *limit),
        Action::Disturb { domain, by } => fault::disturb(world, domain, by),
        Action::Panic { domain } => fault::panic(world, domain),
        Action::SetService { domain, order } => fault::set_service(world, domain, *order),
        Action::StopLab => lab::stop(world),
        Action::StopRelay => lab::stop_relay(world),
        Action::RemoveLab => lab::remove(world),
        Action::Publish { host, to, .. } => lab::publish(world, *host, to),
        Action::ChangeFront { host, to, .. } => lab::publish(world, *host, to),
        Action::Unpublish { host } => lab::unpublish(world, *host),
        Action::EnsureImage { image } => disk::ensure_image(world, image, &scope),
        Action::EnsureRom {
            domain,
            image,
            digest,
            firmware,
        } => firmware::ensure(world, domain, image, firmware, digest, &scope),
        Action::CreateDisk {
            domain,
            image,
            size,
        } => disk::create(world, domain, image, *size),
        Action::GrowDisk { domain, size } => disk::grow(&world.home.disk(domain), *size),
        Action::DeleteDisk { domain } => disk::delete(world, domain),
        Action::CreateVolume { file, size, .. } => {
            disk::create_volume(&world.home.volumes().join(file), *size)
        }
        Action::GrowVolume { file, size, .. } => {
            disk::grow(&world.home.volumes().join(file), *size)
        }
        Action::DeleteVolume { file } => disk::delete_volume(world, file),
        Action::RenameVolume { from, file, .. } => {
            disk::rename_volume(&world.home.volumes(), from, file)
        }
        Action::DefineNetwork { definition, .. } => network::define(world, definition),
        Action::StartNetwork => network::start(world),
        Action::SetNetworkAutostart { autostart } => network::set_autostart(world, *autostart),
        Action::RestoreDns => network::restore_dns(world),
        Action::StopNetwork => network::stop(world),
        Action::UndefineNetwork => network::undefine(world),
        Action::Define { definition, .. } => domain::define(world, definition, &scope),
        Action::SetAutostart { domain, autostart } => {
            domain::set_autostart(world, domain, *autostart)
        }
        Action::Start {
            domain,
            saved_state,
        } => domain::start(world, domain, *saved_state),
        Action::Resume { domain } => domain::resume(world, domain),
        Action::Restart { domain } => domain::restart(world, domain, &scope),
        Action::Save { domain, machine } => memory::save(world, domain, machine, &scope),
        Action::Restore { domain } => memory::restore(world, domain, &scope),
        Action::Continue { domain } => memory::resume(world, domain),
        Action::SetClock { domain, clock } => reach::set_clock(world, domain, *clock, &scope),
        Action::Wake { domain } => domain::wake(world, domain),
        Action::Merge { domain } | Action::MergeSnapshot { domain } => {
            snapshot::settle(world, domain, &scope, &world.cancel)
        }
        Action::Meet { when } => hosts::meet(world, *when),
        Action::BeginSnapshot { snapshot } => world.home.prepare_snapshot(snapshot),
        Action::AddLayers { domain } => snapshot::add_layers(world, domain),
        Action::TakeSnapshot {
            domain,
            snapshot,
            of,
        } => snapshot::take(world, domain, snapshot, of),
        Action::RecordSnapshot { snapshot, note } => {
            snapshot::record(world, snapshot, note, &scope)
        }
        Action::Rewind {
            snapshot,
            disk_only,
        } => snapshot::rewind(world, snapshot, *disk_only),
        Action::RemoveSnapshot { snapshot } => snapshot::remove(world, snapshot, &scope),
        Action::Place { .. } => archive::place(world),
        Action::Pause { domain } => domain::pause(world, domain),
        Action::Snapshot { domain } => domain::freeze(world, domain),
        Action::Tidy { domain, clean } => archive::tidy(world, domain, *clean, &scope),
        Action::Pack {
            archive,
            existing,
            flatten,
            with_secrets,
            snapshot,
        } => {
            let packing = archive::Packing {
                archive,
                existing: *existing,
                flatten: *flatten,
                with_secrets: *with_secrets,
                snapshot: snapshot.as_ref(),
            };
            archive::pack(world, &packing, &scope)
        }
        Action::Resize {
            domain,
            memory,
            vcpus,
            memory_affects,
            redefine,
        } => {
            if let Some(definition) = redefine {
                domain::define(world, definition, &scope)?;
            }
            domain::resize(
                world,
                domain,
                memory.current,
                *memory_affects,
                vcpus.current,
            )
        }
        Action::Stop { domain, mode } => domain::stop(world, domain, *mode, &scope),
        Action::Undefine { domain } => domain::undefine(world, domain),
        Action::Reach {
            domain,
            firmware,
            boot_timeout,
            clock,
        } => reach::reach(world, domain, firmware, *boot_timeout, *clock, &scope),
        Action::FileSystems { domain, volumes } => {
            world.guest(domain)?.file_systems(volumes)?;
            world.home.forget_file_systems_due(domain)
        }
        Action::Push {
            domain,
            release,
            push,
            setup_timeout,
        } => {
            let release = release.as_ref();
            service::push(world, domain, release, *push, *setup_timeout, &scope)
        }
        Action::Activate {
            domain,
            release,
            restart,
            readiness,
        } => {
            let release = release.as_ref();
            service::activate(world, domain, release, *restart, readiness, &scope)
        }
        Action::Gather { domain, address } => service::gather(world, domain, *address, &scope),
        Action::Withdraw { domain } => service::withdraw(world, domain, &scope),
        Action::Renew { domain, readiness } => service::renew(world, domain, readiness, &scope),
        Action::Healthy {
            domain, readiness, ..
        } => service::healthy(world, domain, readiness, &scope),
        Action::Serving { domain, readiness } => {
            service::await_serving(world, domain, readiness, &scope)
        }
    }
}
