//! Takes back what a run did, newest first, past failures.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use pspd_model::plan::{Action, Step};
use tokio_util::sync::CancellationToken;

use super::{Outcome, World, archive, disk, domain, lab, memory, network, snapshot};
use crate::event::{Event, Scope};
use crate::state::{Entry, Journal};

/// The deadline for undoing one step; merging a snapshot takes longest.
const WITHIN: Duration = Duration::from_secs(600);

pub(super) async fn undo(
    outcome: &Outcome,
    world: &Arc<World>,
    journal: &Journal,
) -> anyhow::Result<Vec<(Step, Option<anyhow::Error>)>> {
    let mut undone = Vec::new();
    for step in to_undo(outcome) {
        let (world_of_step, taken) = (Arc::clone(world), step.clone());
        let undoing =
            tokio::task::spawn_blocking(move || undo_action(&world_of_step, &taken.action));
        let result = match tokio::time::timeout(WITHIN, undoing).await {
            Ok(result) => result?,
            Err(_) => Err(anyhow!("it did not end within {} s", WITHIN.as_secs())),
        };
        // A journal that cannot be written, on a full disk, is not a reason to leave things behind.
        let written = journal.write(&Entry::Undo {
            step: step.id.to_string(),
        });
        let result = result.and(written);
        let (id, subject, title) = super::described(step);
        world.events.emit(Event::Undone {
            step: id,
            subject,
            title,
        });
        undone.push((step.clone(), result.err()));
    }
    Ok(undone)
}

/// The steps to undo, in the order in which that is done.
fn to_undo(outcome: &Outcome) -> Vec<&Step> {
    let ended = outcome.ended.iter().map(|ended| &ended.step);
    let failed = outcome.failed.iter().map(|(step, _)| step);
    // Where freezing failed, an overlay or a layer may still be left.
    let half_done = failed.filter(|step| {
        matches!(
            step.action,
            Action::Snapshot { .. } | Action::TakeSnapshot { .. }
        )
    });
    let mut steps: Vec<&Step> = ended
        .chain(half_done)
        .rev()
        .filter(|step| is_left(step, outcome))
        .collect();
    // Guests run before anything else: merging their disks takes longer.
    steps.sort_by_key(|step| !matches!(step.action, Action::Pause { .. }));
    steps
}

/// Whether the step made something that was not there before this run, and that no later step took back or tried to.
fn is_left(step: &Step, outcome: &Outcome) -> bool {
    let ended = |wanted: &dyn Fn(&Action) -> bool| {
        let mut ended = outcome.ended.iter();
        ended.any(|ended| wanted(&ended.step.action))
    };
    let tried = |wanted: &Action| {
        let mut failed = outcome.failed.iter();
        ended(&|action| action == wanted) || failed.any(|(step, _)| step.action == *wanted)
    };
    match &step.action {
        Action::DefineNetwork { fresh, .. } | Action::Define { fresh, .. } => *fresh,
        Action::StartNetwork => !ended(&|action| *action == Action::StopNetwork),
        Action::Start { domain, .. } => !ended(
            &|action| matches!(action, Action::Stop { domain: stopped, .. } if stopped == domain),
        ),
        Action::Pause { domain } => {
            let resume = Action::Resume {
                domain: domain.clone(),
            };
            let saved = ended(
                &|action| matches!(action, Action::Save { domain: saved, .. } if saved == domain),
            );
            !tried(&resume) && !saved
        }
        Action::Save { domain, .. } => {
            !ended(&|action| matches!(action, Action::Undefine { domain: gone } if gone == domain))
        }
        Action::Restore { domain } => !tried(&Action::Continue {
            domain: domain.clone(),
        }),
        Action::Snapshot { domain } => !tried(&Action::MergeSnapshot {
            domain: domain.clone(),
        }),
        Action::BeginSnapshot { .. } | Action::AddLayers { .. } | Action::TakeSnapshot { .. } => {
            !ended(&|action| matches!(action, Action::RecordSnapshot { .. }))
        }
        Action::StartLab
        | Action::RecordIntent { .. }
        | Action::Place { .. }
        | Action::Publish { .. }
        | Action::CreateDisk { .. }
        | Action::CreateVolume { .. } => true,
        // Images and ROMs stay in the cache, keys stay with the deployment, releases are deleted with their disk; an archive
        // is complete or does not exist; the rest removed something or only waited.
        _ => false,
    }
}

fn undo_action(world: &World, action: &Action) -> anyhow::Result<()> {
    // What cancelled the run must not cancel this. A second signal ends the process.
    let (ignored, cancel) = (Scope::ignored(), CancellationToken::new());
    match action {
        Action::StartLab => lab::stop(world).and_then(|()| lab::remove(world)),
        Action::Publish { host, .. } => lab::unpublish(world, *host),
        Action::DefineNetwork { .. } => network::undefine(world),
        Action::StartNetwork => network::stop(world),
        Action::CreateDisk { domain, .. } => disk::delete(world, domain),
        Action::CreateVolume { file, .. } => disk::delete_volume(world, file),
        Action::Define { domain, .. } => domain::undefine(world, domain),
        Action::RecordIntent { before, .. } => world.home.record_intent(before),
        Action::Start { domain, .. } | Action::Restore { domain } => domain::destroy(world, domain),
        Action::Save { domain, .. } => memory::undo_save(world, domain),
        Action::Place { .. } => archive::remove(world),
        Action::Pause { domain } => domain::resume(world, domain),
        Action::Snapshot { domain } => snapshot::settle(world, domain, &ignored, &cancel),
        Action::BeginSnapshot { snapshot } => world.home.forget_snapshot(snapshot),
        Action::AddLayers { domain } | Action::TakeSnapshot { domain, .. } => {
            snapshot::shorten(world, domain, &ignored, &cancel)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pspd_model::plan::{Existing, SavedMachine, SnapshotOf};
    use pspd_model::spec::{Digest, Name, Range, Size};

    use super::*;
    use crate::execute::Ended;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn step(action: Action) -> Step {
        Step {
            id: action.id(),
            action,
            after: Vec::new(),
            reason: String::new(),
        }
    }

    fn ended(actions: Vec<Action>) -> Outcome {
        let ended = actions.into_iter().map(|action| Ended {
            step: step(action),
            started: Duration::ZERO,
            elapsed: Duration::ZERO,
        });
        Outcome {
            ended: ended.collect(),
            ..Outcome::default()
        }
    }

    fn fail(outcome: &mut Outcome, action: Action) {
        let error = anyhow::anyhow!("no space");
        outcome.failed.push((step(action), error));
    }

    fn undone(outcome: &Outcome) -> Vec<String> {
        let steps = to_undo(outcome).into_iter();
        steps.map(|step| step.id.to_string()).collect()
    }

    fn pause(domain: &str) -> Action {
        Action::Pause {
            domain: name(domain),
        }
    }

    fn snapshot(domain: &str) -> Action {
        Action::Snapshot {
            domain: name(domain),
        }
    }

    fn resume(domain: &str) -> Action {
        Action::Resume {
            domain: name(domain),
        }
    }

    fn merge(domain: &str) -> Action {
        Action::MergeSnapshot {
            domain: name(domain),
        }
    }

    #[test]
    fn guests_run_again_before_their_disks_are_merged() {
        let mut outcome = ended(vec![pause("a"), pause("b"), snapshot("a")]);
        fail(&mut outcome, snapshot("b"));
        assert_eq!(
            undone(&outcome),
            ["b/pause", "a/pause", "b/snapshot", "a/snapshot"]
        );
    }

    #[test]
    fn what_a_later_step_took_back_is_not_taken_back_twice() {
        let mut outcome = ended(vec![
            pause("a"),
            pause("b"),
            snapshot("a"),
            snapshot("b"),
            resume("a"),
            resume("b"),
        ]);
        let pack = Action::Pack {
            archive: "a.tar".into(),
            existing: Existing::Refuse,
            flatten: false,
            with_secrets: false,
            snapshot: None,
        };
        fail(&mut outcome, pack.clone());
        assert_eq!(undone(&outcome), ["b/snapshot", "a/snapshot"]);
        outcome.failed.clear();
        outcome.ended.extend(ended(vec![pack, merge("a")]).ended);
        fail(&mut outcome, merge("b"));
        assert_eq!(undone(&outcome), [""; 0]);
    }

    #[test]
    fn a_domain_that_this_run_stopped_and_started_stays() {
        let start = Action::Start {
            domain: name("a"),
            saved_state: pspd_model::plan::SavedState::Restore,
        };
        let stop = Action::Stop {
            domain: name("a"),
            mode: pspd_model::plan::StopMode::Shutdown,
        };
        assert_eq!(undone(&ended(vec![start.clone()])), ["a/start"]);
        assert_eq!(undone(&ended(vec![stop, start])), [""; 0]);
    }

    #[test]
    fn a_save_that_was_for_nothing_is_restored_unless_its_domain_is_gone() {
        let save = |domain: &str| Action::Save {
            domain: name(domain),
            machine: machine(),
        };
        let mut outcome = ended(vec![pause("a"), pause("b"), save("a")]);
        fail(&mut outcome, save("b"));
        assert_eq!(undone(&outcome), ["b/pause", "a/save"]);
        let gone = Action::Undefine { domain: name("a") };
        let outcome = ended(vec![pause("a"), save("a"), gone]);
        assert_eq!(undone(&outcome), [""; 0]);
    }

    #[test]
    fn a_restored_domain_that_runs_stays() {
        let restore = Action::Restore { domain: name("a") };
        let proceed = Action::Continue { domain: name("a") };
        assert_eq!(undone(&ended(vec![restore.clone()])), ["a/restore"]);
        assert_eq!(undone(&ended(vec![restore, proceed])), [""; 0]);
    }

    #[test]
    fn a_snapshot_that_was_not_recorded_leaves_nothing_and_one_that_was_stays() {
        let begin = Action::BeginSnapshot {
            snapshot: name("clean"),
        };
        let take = |domain: &str| Action::TakeSnapshot {
            domain: name(domain),
            snapshot: name("clean"),
            of: SnapshotOf::Memory(machine()),
        };
        let mut outcome = ended(vec![begin.clone(), pause("a"), pause("b"), take("a")]);
        fail(&mut outcome, take("b"));
        assert_eq!(
            undone(&outcome),
            [
                "b/pause",
                "a/pause",
                "b/take-snapshot",
                "a/take-snapshot",
                "snapshot/begin"
            ]
        );
        let record = Action::RecordSnapshot {
            snapshot: name("clean"),
            note: String::new(),
        };
        let resume = Action::Resume { domain: name("a") };
        let outcome = ended(vec![begin, pause("a"), take("a"), resume, record]);
        assert_eq!(undone(&outcome), [""; 0]);
    }

    fn machine() -> SavedMachine {
        SavedMachine {
            definition: Digest::of(b""),
            memory: fixed(Size::mib(512)),
            vcpus: fixed(1),
        }
    }

    fn fixed<T: Copy>(value: T) -> Range<T> {
        Range {
            current: value,
            maximum: value,
        }
    }
}
