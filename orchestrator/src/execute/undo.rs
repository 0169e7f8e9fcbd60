//! Takes back what an interrupted run created, newest first, past failures.

use std::sync::Arc;

use pspd_model::plan::{Action, Step};

use super::{Ended, World, disk, domain, lab, network};
use crate::event::Event;
use crate::state::{Entry, Journal};

pub(super) async fn undo(
    ended: &[Ended],
    world: &Arc<World>,
    journal: &Journal,
) -> anyhow::Result<Vec<(Step, Option<anyhow::Error>)>> {
    let mut undone = Vec::new();
    for Ended { step, .. } in ended.iter().rev() {
        if !created(step, ended) {
            continue;
        }
        let (world_of_step, taken) = (Arc::clone(world), step.clone());
        let result =
            tokio::task::spawn_blocking(move || undo_action(&world_of_step, &taken.action)).await?;
        // A journal that cannot be written, on a full disk, is no reason to leave things behind.
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

/// Whether the step made something that was not there before this run.
fn created(step: &Step, ended: &[Ended]) -> bool {
    let stopped = |name| {
        ended.iter().any(
            |other| matches!(&other.step.action, Action::Stop { domain, .. } if domain == name),
        )
    };
    match &step.action {
        Action::DefineNetwork { fresh, .. } | Action::Define { fresh, .. } => *fresh,
        Action::StartNetwork => !ended
            .iter()
            .any(|other| other.step.action == Action::StopNetwork),
        Action::Start { domain, .. } => !stopped(domain),
        Action::StartLab
        | Action::Publish { .. }
        | Action::CreateDisk { .. }
        | Action::CreateVolume { .. } => true,
        // Images and ROMs stay in the cache, keys stay with the deployment, releases are deleted with their disk; the rest
        // removed something or only waited.
        _ => false,
    }
}

fn undo_action(world: &World, action: &Action) -> anyhow::Result<()> {
    match action {
        Action::StartLab => lab::stop(world).and_then(|()| lab::remove(world)),
        Action::Publish { host, .. } => lab::unpublish(world, *host),
        Action::DefineNetwork { .. } => network::undefine(world),
        Action::StartNetwork => network::stop(world),
        Action::CreateDisk { domain, .. } => disk::delete(world, domain),
        Action::CreateVolume { file, .. } => disk::delete_volume(&world.home.volumes().join(file)),
        Action::Define { domain, .. } => domain::undefine(world, domain),
        Action::Start { domain, .. } => domain::destroy(world, domain),
        _ => Ok(()),
    }
}
