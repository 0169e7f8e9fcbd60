//! The plan that packs a deployment: all running guests are paused for one instant, in which their disks are frozen.
//!
//! ```text
//! tidy (each) -> pause (each) -> snapshot (each) -+-> resume (each) ----------+-> merge-snapshot (each)
//!                                                 +-> pack -------------------+
//! ```
//! An arrow waits for the whole group before it, so that the archive is of one instant. Wherever a run ends, its undo or
//! the next `up` resumes the guests and merges what was frozen.

use std::path::PathBuf;

use super::builder::PlanBuilder;
use super::{Action, DomainStep, Existing, Plan, PlanError, StepId, Undo, remove, rename, up};
use crate::intent::Intent;
use crate::observed::{Attached, Base, DiskState, LabState, Observed, ObservedDomain, Power};
use crate::spec::{Name, Spec};

/// What is packed, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportOptions {
    pub archive: PathBuf,
    pub existing: Existing,
    /// Delete caches and old logs in the guests first.
    pub clean: bool,
    /// Pack a self-contained disk for each domain.
    pub flatten: bool,
    pub with_secrets: bool,
    /// Pack a snapshot, whose topology is the spec, and leave the running system alone.
    pub snapshot: Option<Name>,
}

const REASON: &str = "the deployment is exported";

pub(super) fn plan(
    spec: &Spec,
    intent: &Intent,
    observed: &Observed,
    options: ExportOptions,
) -> Result<Plan, PlanError> {
    up::reject_foreign(spec, observed)?;
    up::reject_stopped(spec, observed)?;
    let mut plan = PlanBuilder::default();
    refuse_lost(spec, observed)?;
    if options.snapshot.is_some() {
        note_secrets(spec, options.with_secrets, &mut plan);
        plan.note(
            "the memory of a snapshot is not packed: its domains boot, as after a power cut"
                .to_owned(),
        );
        plan.add(pack(options), REASON);
        return Ok(plan.finish());
    }
    refuse_incomplete(spec, observed)?;
    rename::refuse(spec, observed)?;
    notes(spec, intent, observed, options.with_secrets, &mut plan);
    for (name, domain) in &observed.domains {
        // A suspended guest's disks cannot be frozen.
        if domain.power == Power::Suspended {
            remove::rouse(name, domain.power, &mut plan);
        }
        remove::merge(name, observed, &mut plan);
    }
    let ready = plan.ids();
    let processes: Vec<(&Name, Power)> = spec
        .domains
        .keys()
        .filter_map(|name| Some((name, observed.domain(name)?.power)))
        .filter(|(_, power)| power.has_process())
        .collect();
    let running: Vec<&Name> = processes
        .iter()
        .filter(|(_, power)| matches!(power, Power::Running | Power::Suspended))
        .map(|(name, _)| *name)
        .collect();
    let of_all = |names: &[&Name], step: DomainStep| -> Vec<StepId> {
        let ids = names.iter().map(|name| StepId::of(name, step.clone()));
        ids.collect()
    };
    for &name in &running {
        let (domain, clean) = (name.clone(), options.clean);
        plan.add(Action::Tidy { domain, clean }, REASON)
            .if_any_planned(remove::roused(name))
            .if_planned(StepId::of(name, DomainStep::Merge));
    }
    for &name in &running {
        let domain = name.clone();
        plan.add(Action::Pause { domain }, REASON)
            .after_all(ready.iter().cloned())
            .after_all(of_all(&running, DomainStep::Tidy));
    }
    for (name, _) in &processes {
        let domain = (*name).clone();
        plan.add(Action::Snapshot { domain }, REASON)
            .after_all(ready.iter().cloned())
            .after_all(of_all(&running, DomainStep::Pause));
    }
    let frozen: Vec<&Name> = processes.iter().map(|(name, _)| *name).collect();
    let frozen = of_all(&frozen, DomainStep::Snapshot);
    for &name in &running {
        let domain = name.clone();
        plan.add(Action::Resume { domain }, "its disks are frozen")
            .after(StepId::of(name, DomainStep::Pause))
            .after_all(frozen.iter().cloned());
    }
    plan.add(pack(options), REASON)
        .after_all(ready)
        .after_all(frozen);
    for (name, _) in &processes {
        let domain = (*name).clone();
        plan.add(Action::MergeSnapshot { domain }, "its disks were packed")
            .after(StepId::of(name, DomainStep::Snapshot))
            .if_planned(StepId::of(name, DomainStep::Resume))
            .after(StepId::Pack);
    }
    plan.undo(Undo::WhenNotSuccessful);
    Ok(plan.finish())
}

fn pack(options: ExportOptions) -> Action {
    Action::Pack {
        archive: options.archive,
        existing: options.existing,
        flatten: options.flatten,
        with_secrets: options.with_secrets,
        snapshot: options.snapshot,
    }
}

/// Says which keys or images are lost, without which nothing can be packed.
fn refuse_lost(spec: &Spec, observed: &Observed) -> Result<(), PlanError> {
    if !observed.keys.missing.is_empty() {
        return Err(PlanError::NoKeys {
            deployment: spec.name.clone(),
        });
    }
    let mut images = observed.images.iter();
    if let Some((image, _)) = images.find(|(_, image)| !image.cached) {
        return Err(PlanError::NotCached {
            image: image.clone(),
        });
    }
    Ok(())
}

/// Says what an export of the current state needs and does not have.
fn refuse_incomplete(spec: &Spec, observed: &Observed) -> Result<(), PlanError> {
    for (name, domain) in &spec.domains {
        let Some(now) = observed.domain(name) else {
            continue;
        };
        let name = || name.clone();
        if now.power.has_process() && now.attached.values().any(|file| *file != Attached::Same) {
            return Err(PlanError::DiskReplaced { domain: name() });
        }
        let image = &observed.images[&domain.image].digest;
        let other =
            |disk: &DiskState| disk.image.as_ref() != Some(image) || disk.base == Base::Missing;
        if now.disk.as_ref().is_some_and(other) {
            return Err(PlanError::OtherBase { domain: name() });
        }
    }
    let mut delayed = observed.domains.iter();
    if let Some((name, _)) = delayed.find(|(_, domain)| domain.shaping.is_some()) {
        let domain = name.clone();
        return Err(PlanError::Delayed { domain });
    }
    let mut disturbed = observed.domains.iter();
    if let Some((name, _)) = disturbed.find(|(_, domain)| domain.disturbed.is_some()) {
        let domain = name.clone();
        return Err(PlanError::Disturbed { domain });
    }
    let lab_runs = matches!(observed.lab, LabState::Unused | LabState::Running);
    let mut domains = observed.domains.iter();
    match domains.find(|(_, domain)| domain.unmerged && !lab_runs) {
        Some((name, _)) => Err(PlanError::Unmerged {
            domain: name.clone(),
        }),
        None => Ok(()),
    }
}

fn notes(
    spec: &Spec,
    intent: &Intent,
    observed: &Observed,
    with_secrets: bool,
    plan: &mut PlanBuilder,
) {
    note_secrets(spec, with_secrets, plan);
    for name in spec.domains.keys() {
        let Some(ObservedDomain { power, memory, .. }) = observed.domain(name) else {
            continue;
        };
        if memory.is_some() || *power == Power::Saved {
            plan.note(format!(
                "`{name}` is packed as after a power cut: its saved memory is not packed"
            ));
        }
        if power.has_process() && !matches!(power, Power::Running | Power::Suspended) {
            let word = power.word();
            plan.note(format!(
                "`{name}` is packed without trimming its disks: it is {word}"
            ));
            if matches!(power, Power::Paused(_)) && !intent.holds_power(name) {
                plan.note(format!("`{name}` stays paused; run `pspd up` to resume it"));
            }
        }
    }
}

fn note_secrets(spec: &Spec, with_secrets: bool, plan: &mut PlanBuilder) {
    if !with_secrets && spec.domains.values().any(|domain| domain.service.is_some()) {
        plan.note(
            "private keys are not included, and are removed from the packed disks; `pspd import` creates new ones. To use \
             the archive without pspd, export with `--with-secrets`"
                .to_owned(),
        );
    }
}
