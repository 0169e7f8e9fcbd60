//! Steps that wait for the other hosts of a deployment.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use pspd_model::plan::Meeting;

use super::World;
use crate::cancelled::Cancelled;
use crate::event::Event;
use crate::other_hosts;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(10);
/// For other hosts to write the memory of their domains.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// Says that this host is as far, and waits until all are.
pub(super) fn meet(world: &World, when: Meeting) -> anyhow::Result<()> {
    world.events.emit(Event::Met { when });
    let deadline = Instant::now() + LONGEST;
    while !other_hosts::have_met(when) {
        if world.cancel.is_cancelled() {
            bail!(Cancelled::during("the other hosts were not waited for"));
        }
        if let Some(host) = other_hosts::first_failed() {
            bail!("host `{host}` did not do its part");
        }
        if Instant::now() > deadline {
            bail!(
                "the other hosts were not as far within {} minutes",
                LONGEST.as_secs() / 60
            );
        }
        thread::sleep(LOOK);
    }
    Ok(())
}
